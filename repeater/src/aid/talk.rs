//! What one connection says to a friend: recognition in both extended handshakes, then the session.
//!
//! The connection feeds it and sends what it gives; it never ends the connection.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bt_wire::extension::ExtendedHandshake;
use bt_wire::ids::{InfoHash, PeerId};
use bytes::Bytes;
use friends_proto::identity::PublicKey;
use friends_proto::message::{ByeReason, Message};
use friends_proto::pair::Role;
use friends_proto::recognition::Recognition;
use friends_proto::session::{End, Event, Ignored, SendError, Session, Setup, With};
use swarm_core::io::ConnId;

use super::{Circle, Far, count_defence, end_name, secrets};
use crate::net::mailbox::Mailbox;

/// Messages that may wait for the session's rate; the session ends over it.
const MAX_WAITING: usize = 1024;

/// Numbers the talks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TalkId(pub(super) u64);

/// What the desk wants said.
#[derive(Debug)]
pub(crate) enum Say {
    /// The session with this friend is over elsewhere: begin one here, if that is ours to do.
    Begin,
    /// A message.
    Message(Message),
    /// End the session.
    Bye(ByeReason),
}

/// What the desk is told.
#[derive(Debug)]
pub(crate) enum Report {
    /// The far end showed a friend's tag; or it is an acquaintance, and proved who it is.
    Met {
        talk: TalkId,
        key: PublicKey,
        link: Box<Link>,
        acquaintance: bool,
    },
    /// It proved to be the friend, and sees us there.
    Open { talk: TalkId, seen: Option<IpAddr> },
    /// It said this.
    Said { talk: TalkId, message: Message },
    /// The session is over; the connection is not.
    Over { talk: TalkId },
    /// The connection is.
    Gone { talk: TalkId },
}

/// The connection, as far as its talk goes.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The infohash of both handshakes.
    pub(crate) infohash: InfoHash,
    /// Ours.
    pub(crate) role: Role,
    /// The far end.
    pub(crate) addr: SocketAddr,
    /// In a swarm, the connection's number.
    pub(crate) conn: Option<ConnId>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) our_id: PeerId,
    pub(crate) their_id: PeerId,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Talk {
    id: TalkId,
    friends: Arc<Circle>,
    link: Link,
    ours: Recognition,
    /// Their id for frames.
    theirs: u8,
    /// Our address, as they see it.
    seen: Option<IpAddr>,
    state: State,
    waiting: VecDeque<Message>,
    retry: Option<Duration>,
    /// The desk knows of it.
    reported: bool,
}

#[derive(Debug)]
enum State {
    /// Their extended handshake has not come.
    Waiting,
    /// Nobody we know: their frames mean nothing, and they get none.
    Nobody,
    /// A friend or an acquaintance; no session was begun here yet.
    Met(Far),
    /// With whom, once it is proved.
    Running(Option<PublicKey>, Box<Session>),
    /// The one session of this connection is over.
    Over,
}

impl Talk {
    /// `None` when the system has no randomness: then nothing is said about friends.
    pub(crate) fn new(friends: &Arc<Circle>, link: Link) -> Option<Self> {
        Some(Self {
            id: friends.new_talk(),
            ours: friends.field(&link.infohash, link.role)?,
            friends: Arc::clone(friends),
            link,
            theirs: 0,
            seen: None,
            state: State::Waiting,
            waiting: VecDeque::new(),
            retry: None,
            reported: false,
        })
    }

    /// The value of `bs_friends` in our extended handshake.
    pub(crate) fn field(&self) -> Bytes {
        self.ours.item().encode().into()
    }

    /// Their extended handshake; only the first is looked at.
    //= spec/friends.md#field-first
    //= spec/friends.md#meet-nobody
    pub(crate) async fn extended(
        &mut self,
        now: Duration,
        theirs: &ExtendedHandshake,
        out: &mut Vec<(u8, Bytes)>,
    ) {
        if !matches!(self.state, State::Waiting) {
            return;
        }
        self.state = State::Nobody;
        let field = theirs.bs_friends.as_deref().and_then(Recognition::parse);
        let (Some(id), Some(field)) = (theirs.m.bs_friends, field) else {
            return;
        };
        let (hash, role) = (&self.link.infohash, self.link.role.other());
        let Some(far) = self.friends.meet(&self.ours, &field, hash, role) else {
            return;
        };
        (self.theirs, self.seen) = (id, theirs.yourip);
        let key = far.key();
        self.state = State::Met(far);
        if let Some(key) = key {
            self.report_met(key, false).await;
        }
        self.begin_if_ours(now, out).await;
    }

    async fn report_met(&mut self, key: PublicKey, acquaintance: bool) {
        self.reported = true;
        let met = Report::Met {
            talk: self.id,
            key,
            link: Box::new(self.link.clone()),
            acquaintance,
        };
        self.report(met).await;
    }

    /// Whether their extended handshake has come and showed a friend.
    pub(crate) fn is_met(&self) -> bool {
        matches!(self.state, State::Met(_) | State::Running(..))
    }

    /// Nothing more can come of it here.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Nobody | State::Over)
    }

    async fn begin_if_ours(&mut self, now: Duration, out: &mut Vec<(u8, Bytes)>) {
        let (Role::Opener, State::Met(far)) = (self.link.role, &self.state) else {
            return;
        };
        //= spec/friends.md#session-one
        let stands = |key| self.friends.online.lock().contains(&key);
        if !far.key().is_some_and(stands) {
            self.begin(now, out).await;
        }
    }

    async fn begin(&mut self, now: Duration, out: &mut Vec<(u8, Bytes)>) {
        let State::Met(far) = &self.state else {
            return;
        };
        let allowed = match far {
            Far::Friend(_) => !self.friends.is_off(),
            Far::Acquaintance => self.friends.is_open(),
        };
        let (key, ip) = (far.key(), self.link.addr.ip());
        let begins = allowed && self.friends.may_begin(key.as_ref(), ip, now);
        let Some(secrets) = secrets().filter(|_| begins) else {
            return;
        };
        let (our_id, their_id) = (self.link.our_id.0, self.link.their_id.0);
        let (opener_peer_id, acceptor_peer_id) = match self.link.role {
            Role::Opener => (our_id, their_id),
            Role::Acceptor => (their_id, our_id),
        };
        let setup = Setup {
            role: self.link.role,
            with: match far {
                Far::Friend(friend) => With::Friend {
                    key: *friend.key.as_bytes(),
                    pair: friend.pair.clone(),
                },
                Far::Acquaintance => With::Acquaintance,
            },
            infohash: self.link.infohash.0,
            opener_peer_id,
            acceptor_peer_id,
            identity: Arc::clone(&self.friends.identity),
            secrets,
        };
        match Session::start(setup, now) {
            Ok((session, first)) => {
                self.state = State::Running(None, Box::new(session));
                self.put(out, first);
            }
            Err(end) => self.over(now, None, end).await,
        }
    }

    /// A frame of theirs.
    //= spec/friends.md#session-connection
    pub(crate) async fn frame(&mut self, now: Duration, frame: &[u8], out: &mut Vec<(u8, Bytes)>) {
        if self.link.role == Role::Acceptor {
            self.begin(now, out).await;
        }
        let State::Running(key, session) = &mut self.state else {
            metrics::counter!("btslave_friend_frames_ignored_total").increment(1);
            return;
        };
        let received = match session.receive(frame, now) {
            Ok(received) => received,
            Err(end) => {
                let proved = *key;
                return self.over(now, proved, end).await;
            }
        };
        if let Some(Event::Open { key: proved, .. }) = &received.event {
            *key = Some(*proved);
        }
        self.put(out, received.frames);
        match received.event {
            Some(Event::Open { key, .. }) => self.opened(now, key, out).await,
            Some(Event::Message(message)) => {
                let talk = self.id;
                self.report(Report::Said { talk, message }).await;
            }
            Some(Event::Ignored(why)) => ignored(why),
            None => {}
        }
    }

    async fn opened(&mut self, now: Duration, key: PublicKey, out: &mut Vec<(u8, Bytes)>) {
        tracing::debug!(addr = %self.link.addr, "a friend's session stands");
        if !self.reported {
            // Only now it is known who the acquaintance is: whether it broke a session before, too.
            if !self.friends.may_begin(Some(&key), self.link.addr.ip(), now) {
                return self.say(now, Say::Bye(ByeReason::Other), out).await;
            }
            self.report_met(key, true).await;
        }
        let (talk, seen) = (self.id, self.seen);
        self.report(Report::Open { talk, seen }).await;
    }

    /// What the desk wants.
    pub(crate) async fn say(&mut self, now: Duration, say: Say, out: &mut Vec<(u8, Bytes)>) {
        match (say, &mut self.state) {
            (Say::Begin, _) => self.begin_if_ours(now, out).await,
            (Say::Message(message), State::Running(..)) => {
                self.waiting.push_back(message);
                self.send_waiting(now, out).await;
            }
            (Say::Bye(why), State::Running(key, session)) => {
                let key = *key;
                let frame = session.bye(why);
                self.put(out, frame);
                self.over(now, key, End::Ours(why)).await;
            }
            (Say::Bye(_), State::Met(_)) => self.state = State::Nobody,
            (
                Say::Message(_) | Say::Bye(_),
                State::Waiting | State::Nobody | State::Over | State::Met(_),
            ) => {}
        }
    }

    /// Sends what the rate allows.
    async fn send_waiting(&mut self, now: Duration, out: &mut Vec<(u8, Bytes)>) {
        self.retry = None;
        while let (Some(message), State::Running(key, session)) =
            (self.waiting.front(), &mut self.state)
        {
            let key = *key;
            match session.send(message, now) {
                Ok(frame) => {
                    self.waiting.pop_front();
                    self.put(out, [frame]);
                }
                Err(SendError::Wait(wait)) if self.waiting.len() <= MAX_WAITING => {
                    self.retry = Some(now.saturating_add(wait));
                    return;
                }
                Err(SendError::NotOpen) => return,
                Err(SendError::Wait(_)) => {
                    let frame = session.bye(ByeReason::Other);
                    self.put(out, frame);
                    return self.over(now, key, End::Ours(ByeReason::Other)).await;
                }
                Err(SendError::Over(end)) => {
                    let frame = session.bye(ByeReason::Exhausted);
                    self.put(out, frame);
                    return self.over(now, key, end).await;
                }
            }
        }
    }

    /// When to call [`Talk::tick`].
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let session = match &self.state {
            State::Running(_, session) => session.deadline(),
            State::Waiting | State::Nobody | State::Met(_) | State::Over => None,
        };
        session.into_iter().chain(self.retry).min()
    }

    /// A deadline may have come.
    //= spec/friends.md#session-time
    pub(crate) async fn tick(&mut self, now: Duration, out: &mut Vec<(u8, Bytes)>) {
        if let State::Running(key, session) = &mut self.state
            && let Err(end) = session.expire(now)
        {
            let key = *key;
            return self.over(now, key, end).await;
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.send_waiting(now, out).await;
        }
    }

    /// The connection ends.
    pub(crate) async fn close(&mut self) {
        if self.reported {
            self.report(Report::Gone { talk: self.id }).await;
        }
    }

    async fn over(&mut self, now: Duration, proved: Option<PublicKey>, end: End) {
        tracing::debug!(addr = %self.link.addr, %end, "a friend's session is over");
        self.friends.ended(proved, self.link.addr.ip(), end, now);
        if end.backs_off() {
            count_defence(end_name(end));
        }
        self.state = State::Over;
        self.waiting.clear();
        self.retry = None;
        if self.reported {
            self.report(Report::Over { talk: self.id }).await;
        }
    }

    async fn report(&self, report: Report) {
        // A desk that has ended needs nothing.
        drop(self.friends.reports.send(report).await);
    }

    fn put(&self, out: &mut Vec<(u8, Bytes)>, frames: impl IntoIterator<Item = Vec<u8>>) {
        let id = self.theirs;
        out.extend(frames.into_iter().map(|frame| (id, Bytes::from(frame))));
    }
}

/// Each reason to pass a message over has a counter.
fn ignored(why: Ignored) {
    let name = match why {
        Ignored::Message(_) => "Message",
        Ignored::TooFast => "TooFast",
        Ignored::Hello => "SecondHello",
        Ignored::BeforeSync => "BeforeSync",
        Ignored::Sync => "SecondSync",
    };
    count_defence(name);
}
