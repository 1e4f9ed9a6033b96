//! A session: two slaves that prove to each other who they are, and then speak in secret.
//!
//! Pure: frames in, frames and events out; secrets and time are arguments. A frame is the payload of one extension
//! message (BEP 10): a kind byte (0 to 2 the Noise handshake, 3 transport) and a Noise message.
//!
//! A [`Session`] that returned an [`End`] is over, and says the same to whatever comes after. The BitTorrent connection
//! stays.

mod back_off;
mod handshake;
mod noise;
mod rate;

use std::sync::Arc;
use std::time::Duration;

pub use back_off::{BACK_OFF, BackOff, MAX_BACK_OFFS};
pub use handshake::{Secrets, Setup, With};
pub use rate::{BURST, MESSAGES_A_SECOND};

use handshake::{Channel, Handshake};
use rate::Bucket;

use crate::identity::{Identity, PublicKey};
use crate::message::{
    Bye, ByeReason, DecodeError, FrameError, Hello, MAX_MESSAGE, Message, MessageError,
};
use crate::pair::Role;

/// Lowest and highest version of the messages that we speak.
pub const VERSIONS: [u8; 2] = [1, 1];
/// The kind byte of a transport frame.
pub const TRANSPORT: u8 = 3;
/// Longest frame: kind, message, tag.
pub const MAX_FRAME: usize = 1 + MAX_MESSAGE + noise::TAG;
/// How long a session may take to open.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
/// Messages in one direction, after which a session ends.
pub const MAX_SENT: u64 = 1 << 32;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The other side sent what no honest one sends, or the wire changed it.
    #[error(transparent)]
    BadFrame(#[from] BadFrame),
    /// Our own key came back to us (row P22).
    #[error("the other side shows our own key")]
    OwnKey,
    /// The key shown is no key, or not the friend's.
    #[error("the other side shows another key than the friend's")]
    BadKey,
    /// The signature shown is not the key's over this session (row P21).
    #[error("the other side did not prove its key")]
    BadSignature,
    /// No version of the messages that both speak (row P25), or a choice outside what was offered.
    #[error("no version of the friends' messages that both sides speak")]
    Version,
    /// Not open within [`HANDSHAKE_TIME`].
    #[error("the other side did not finish the handshake in time")]
    Timeout,
    /// A direction has carried [`MAX_SENT`] messages.
    #[error("the session has carried all the messages it may")]
    Exhausted,
    /// The other side said goodbye.
    #[error("the other side ended the session ({0:?})")]
    Bye(ByeReason),
    /// We ended it.
    #[error("we ended the session ({0:?})")]
    Ours(ByeReason),
    /// The Noise library refused what we gave it: a bug of ours.
    #[error("the Noise library refused its parameters")]
    Setup,
}

/// A frame that ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// No byte at all.
    #[error("an empty frame")]
    Empty,
    /// A kind that cannot come now.
    #[error("a frame of kind {0} where none can be")]
    Kind(u8),
    /// A length that this kind cannot have.
    #[error("a frame with {0} bytes of message")]
    Length(usize),
    /// It does not decrypt: another key, another prologue, or changed, lost, repeated or reordered on its way.
    #[error("a frame that does not decrypt")]
    Unreadable,
    /// It decrypts to what is no message.
    #[error(transparent)]
    Message(#[from] FrameError),
    /// A message that cannot be the first one.
    #[error("the first message is no sound hello")]
    NoHello,
}

impl End {
    /// Whether [`BACK_OFF`] begins.
    #[must_use]
    //= spec/friends.md#session-back-off
    pub fn backs_off(&self) -> bool {
        match self {
            Self::BadFrame(_)
            | Self::OwnKey
            | Self::BadKey
            | Self::BadSignature
            | Self::Version
            | Self::Timeout => true,
            Self::Bye(why) => match why {
                ByeReason::NotAFriend | ByeReason::Other => true,
                ByeReason::Leaving | ByeReason::Duplicate | ByeReason::Exhausted => false,
            },
            Self::Exhausted | Self::Ours(_) | Self::Setup => false,
        }
    }
}

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// To be sent, in this order.
    pub frames: Vec<Vec<u8>>,
    /// What it means.
    pub event: Option<Event>,
}

/// What a frame means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session is open.
    Open {
        /// The other side's identity, proved.
        key: PublicKey,
        /// The version of the messages.
        version: u8,
    },
    /// A message.
    Message(Message),
    /// A message that was ignored, and why; for the caller's counter.
    Ignored(Ignored),
}

/// Why a message was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Its type is unknown, or a field is not right.
    Message(MessageError),
    /// More than [`MESSAGES_A_SECOND`] and [`BURST`] allow (row P24).
    TooFast,
    /// A second hello.
    Hello,
    /// It came before the other side's sync.
    BeforeSync,
    /// A second sync.
    Sync,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is not open yet.
    #[error("the session is not open yet")]
    NotOpen,
    /// The rate's limit is reached; nothing was sent.
    #[error("too many messages; the next can go in {0:?}")]
    Wait(Duration),
    /// The session is over.
    #[error(transparent)]
    Over(#[from] End),
}

/// One session.
pub struct Session {
    role: Role,
    with: With,
    identity: Arc<Identity>,
    phase: Phase,
    opened_by: Duration,
    incoming: Bucket,
    outgoing: Bucket,
    sent: u64,
    received: u64,
    most: u64,
    synced: bool,
}

enum Phase {
    Handshake(Box<Handshake>),
    Hello(Box<Channel>),
    Open(Box<Channel>),
    Over(End),
}

impl Session {
    /// A session and, for the opener, its first frame. Begun after both BEP 10 handshakes.
    ///
    /// # Errors
    /// [`End::Setup`], which no parameters that the types allow should lead to.
    pub fn start(setup: Setup, now: Duration) -> Result<(Self, Option<Vec<u8>>), End> {
        let mut handshake = Handshake::new(&setup)?;
        let first = match setup.role {
            Role::Opener => Some(handshake.write(0)?),
            Role::Acceptor => None,
        };
        let session = Self {
            role: setup.role,
            with: setup.with,
            identity: setup.identity,
            phase: Phase::Handshake(Box::new(handshake)),
            opened_by: now.saturating_add(HANDSHAKE_TIME),
            incoming: Bucket::full(now),
            outgoing: Bucket::full(now),
            sent: 0,
            received: 0,
            most: MAX_SENT,
            synced: false,
        };
        Ok((session, first))
    }

    /// Whether messages can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// The hash of the whole handshake once it is through: one value for both sides, and for this session alone.
    #[must_use]
    pub fn handshake_hash(&self) -> Option<&[u8; 32]> {
        match &self.phase {
            Phase::Hello(channel) | Phase::Open(channel) => Some(channel.hash()),
            Phase::Handshake(_) | Phase::Over(_) => None,
        }
    }

    /// When to call [`Session::expire`]; none once it is open or over.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Handshake(_) | Phase::Hello(_) => Some(self.opened_by),
            Phase::Open(_) | Phase::Over(_) => None,
        }
    }

    /// Ends a session that did not open in time.
    ///
    /// # Errors
    /// [`End::Timeout`], or the end that came before.
    //= spec/friends.md#session-time
    pub fn expire(&mut self, now: Duration) -> Result<(), End> {
        if let Phase::Over(end) = self.phase {
            return Err(end);
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(self.over(End::Timeout));
        }
        Ok(())
    }

    /// Takes one frame of the other side.
    ///
    /// # Errors
    /// The session is over; nothing is sent, and whatever else comes is refused in the same way.
    //= spec/friends.md#session-connection
    pub fn receive(&mut self, frame: &[u8], now: Duration) -> Result<Received, End> {
        self.expire(now)?;
        self.take(frame, now).map_err(|end| self.over(end))
    }

    /// The frame that carries `message`.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent.
    pub fn send(&mut self, message: &Message, now: Duration) -> Result<Vec<u8>, SendError> {
        match self.phase {
            Phase::Open(_) => {}
            Phase::Over(end) => return Err(end.into()),
            Phase::Handshake(_) | Phase::Hello(_) => return Err(SendError::NotOpen),
        }
        // The last one is for `bye`.
        if self.sent + 1 >= self.most {
            return Err(End::Exhausted.into());
        }
        self.outgoing.take(now).map_err(SendError::Wait)?;
        self.seal(message)
            .map_err(|end| SendError::Over(self.over(end)))
    }

    /// Ends the session, with a frame that tells the other side if it can read one.
    pub fn bye(&mut self, why: ByeReason) -> Option<Vec<u8>> {
        let frame = match self.phase {
            Phase::Hello(_) | Phase::Open(_) => self.seal(&Message::Bye(Bye { why })).ok(),
            Phase::Handshake(_) | Phase::Over(_) => None,
        };
        self.over(End::Ours(why));
        frame
    }

    /// The first end stays.
    fn over(&mut self, end: End) -> End {
        if let Phase::Over(first) = self.phase {
            return first;
        }
        self.phase = Phase::Over(end);
        end
    }

    //= spec/friends.md#frame-nonces
    fn seal(&mut self, message: &Message) -> Result<Vec<u8>, End> {
        let channel = match &mut self.phase {
            Phase::Hello(channel) | Phase::Open(channel) => channel,
            Phase::Handshake(_) | Phase::Over(_) => return Err(End::Setup),
        };
        if self.sent >= self.most {
            return Err(End::Exhausted);
        }
        self.sent += 1;
        channel.seal(TRANSPORT, &message.encode())
    }

    //= spec/friends.md#frame-kind
    //= spec/friends.md#frame-nonces
    fn take(&mut self, frame: &[u8], now: Duration) -> Result<Received, End> {
        let (&kind, message) = frame.split_first().ok_or(BadFrame::Empty)?;
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                let step = handshake.read(kind, message)?;
                let mut frames: Vec<Vec<u8>> = step.answer.into_iter().collect();
                if step.done {
                    frames.extend(self.handshake_done()?);
                }
                Ok(Received {
                    frames,
                    event: None,
                })
            }
            Phase::Hello(channel) | Phase::Open(channel) => {
                if kind != TRANSPORT {
                    return Err(BadFrame::Kind(kind).into());
                }
                if self.received >= self.most {
                    return Err(End::Exhausted);
                }
                let plaintext = channel.open(message)?;
                self.received += 1;
                let paced = self.incoming.take(now).is_ok();
                self.read(&plaintext, paced)
            }
            Phase::Over(end) => Err(*end),
        }
    }

    /// The opener shows its identity first: it opened the connection.
    fn handshake_done(&mut self) -> Result<Option<Vec<u8>>, End> {
        let phase = std::mem::replace(&mut self.phase, Phase::Over(End::Setup));
        let Phase::Handshake(handshake) = phase else {
            return Err(End::Setup);
        };
        self.phase = match handshake.into_channel() {
            Ok(channel) => Phase::Hello(Box::new(channel)),
            Err(end) => Phase::Over(end),
        };
        if let Phase::Over(end) = self.phase {
            return Err(end);
        }
        match self.role {
            Role::Opener => self.say_hello(None).map(Some),
            Role::Acceptor => Ok(None),
        }
    }

    fn say_hello(&mut self, chosen: Option<u8>) -> Result<Vec<u8>, End> {
        let Phase::Hello(channel) = &self.phase else {
            return Err(End::Setup);
        };
        let hello = channel.hello(self.role, &self.identity, VERSIONS, chosen);
        self.seal(&Message::Hello(hello))
    }

    //= spec/friends.md#hello-first
    //= spec/friends.md#message-sync-first
    //= spec/friends.md#session-rate
    fn read(&mut self, plaintext: &[u8], paced: bool) -> Result<Received, End> {
        let event = match (&self.phase, Message::decode(plaintext)) {
            (_, Err(DecodeError::End(error))) => return Err(BadFrame::from(error).into()),
            (_, Ok(Message::Bye(bye))) => return Err(End::Bye(bye.why)),
            (Phase::Hello(_), Ok(Message::Hello(hello))) => return self.meet(&hello),
            (Phase::Hello(_), Ok(_) | Err(DecodeError::Ignore(_))) => {
                return Err(BadFrame::NoHello.into());
            }
            (_, _) if !paced => Event::Ignored(Ignored::TooFast),
            (_, Err(DecodeError::Ignore(error))) => Event::Ignored(Ignored::Message(error)),
            (_, Ok(Message::Hello(_))) => Event::Ignored(Ignored::Hello),
            (_, Ok(Message::Sync(_))) if self.synced => Event::Ignored(Ignored::Sync),
            (_, Ok(message @ Message::Sync(_))) => {
                self.synced = true;
                Event::Message(message)
            }
            (_, Ok(_)) if !self.synced => Event::Ignored(Ignored::BeforeSync),
            (_, Ok(message)) => Event::Message(message),
        };
        Ok(Received {
            frames: Vec::new(),
            event: Some(event),
        })
    }

    /// The other side's hello opens the session.
    fn meet(&mut self, hello: &Hello) -> Result<Received, End> {
        let Phase::Hello(channel) = &self.phase else {
            return Err(End::Setup);
        };
        let own = self.identity.public_key();
        let key = channel.prove(hello, self.role.other(), &own, &self.with)?;
        let version = version(self.role, VERSIONS, hello)?;
        let answer = match self.role {
            Role::Opener => None,
            Role::Acceptor => Some(self.say_hello(Some(version))?),
        };
        let phase = std::mem::replace(&mut self.phase, Phase::Over(End::Setup));
        let Phase::Hello(channel) = phase else {
            return Err(End::Setup);
        };
        self.phase = Phase::Open(channel);
        Ok(Received {
            frames: answer.into_iter().collect(),
            event: Some(Event::Open { key, version }),
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match &self.phase {
            Phase::Handshake(_) => "handshake",
            Phase::Hello(_) => "hello",
            Phase::Open(_) => "open",
            Phase::Over(_) => "over",
        };
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("phase", &phase)
            .field("sent", &self.sent)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// The version that holds: the highest that both speak. The acceptor chooses; the opener looks whether that is it.
//= spec/friends.md#hello-version
//= spec/friends.md#version-plain
fn version(role: Role, ours: [u8; 2], hello: &Hello) -> Result<u8, End> {
    let highest = ours[1].min(hello.highest);
    if highest < ours[0].max(hello.lowest) {
        return Err(End::Version);
    }
    match (role, hello.chosen) {
        (Role::Acceptor, None) => Ok(highest),
        (Role::Opener, Some(chosen)) if chosen == highest => Ok(highest),
        (Role::Opener | Role::Acceptor, _) => Err(End::Version),
    }
}

/// Of two sessions with the same identity, the one that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// The one that opened first.
    Older,
    /// The one that opened later.
    Newer,
}

/// Which of two sessions of the same pair stays, by who began each: the one whose opener has the smaller key. Of two
/// that the same side began the newer stays, since nobody begins a second one while it believes in the first.
#[must_use]
//= spec/friends.md#session-one
pub fn stays(older_opener: &PublicKey, newer_opener: &PublicKey) -> Stays {
    if older_opener < newer_opener {
        Stays::Older
    } else {
        Stays::Newer
    }
}

#[cfg(test)]
mod tests;
