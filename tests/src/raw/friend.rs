//! A friend's slave that holds its own keys: it hears everything that the slave under test says to friends, in clear.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use bt_wire::extension::{ExtendedHandshake, ExtensionIds};
use bt_wire::handshake::{Handshake, LENGTH, Reserved};
use bt_wire::ids::{InfoHash, PeerId};
use bt_wire::message::Message as Wire;
use bytes::{Bytes, BytesMut};
use friends_proto::identity::{Identity, PublicKey, Zeroizing};
use friends_proto::message::{Message, Sync};
use friends_proto::pair::{PairKey, Role};
use friends_proto::recognition::{Known, Recognition, padding_bytes};
use friends_proto::session::{Event, Secrets, Session, Setup, With};

use super::socket::{dial, read_frame};

/// What we call `bs_friends`.
const FRAMES: u8 = 5;
/// For each step of the meeting.
const PATIENCE: Duration = Duration::from_secs(10);
const DAY: u64 = 86_400;

/// The identity of the friend in a test.
#[must_use]
pub fn identity(seed: u8) -> Identity {
    Identity::from_secret(&Zeroizing::new([seed; 32]))
}

/// A session with the slave under test, on the pair's home.
#[derive(Debug)]
pub struct Friend {
    stream: TcpStream,
    session: Session,
    /// The slave's id for frames.
    id: u8,
    began: Instant,
    /// Every byte that came.
    pub bytes: Vec<u8>,
    /// Every message that came.
    pub heard: Vec<Message>,
}

impl Friend {
    /// Dials the slave from `from` and opens a session; both have added each other's code.
    ///
    /// # Errors
    /// The slave does not recognise us, or ends it.
    pub fn meet(
        from: Ipv4Addr,
        slave: SocketAddr,
        me: Identity,
        other: &PublicKey,
    ) -> anyhow::Result<Self> {
        let pair = PairKey::derive(&me, other)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let home = pair.home(now.as_secs() / DAY);
        let mut stream = dial(from, slave)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let our_id = PeerId(*b"-BS0100-a-far-friend");
        let ours = Handshake {
            reserved: Reserved::ours(false),
            info_hash: home,
            peer_id: our_id,
        };
        stream.write_all(&ours.encode())?;
        let mut theirs = [0; LENGTH];
        stream.read_exact(&mut theirs).context("their handshake")?;
        let theirs = Handshake::decode(&theirs)?;
        let known = [Known {
            key: *other,
            pair: pair.clone(),
        }];
        send(&mut stream, 0, &hello(&known, &home, now)?)?;
        let setup = Setup {
            role: Role::Opener,
            with: With::Friend {
                key: *other.as_bytes(),
                pair,
            },
            infohash: home.0,
            opener_peer_id: our_id.0,
            acceptor_peer_id: theirs.peer_id.0,
            identity: Arc::new(me),
            secrets: Secrets {
                fixed: Zeroizing::new([0x51; 32]),
                ephemeral: Zeroizing::new([0x52; 32]),
            },
        };
        let (session, first) = Session::start(setup, Duration::ZERO)?;
        let mut friend = Self {
            stream,
            session,
            id: 0,
            began: Instant::now(),
            bytes: Vec::new(),
            heard: Vec::new(),
        };
        friend.id = friend.their_id()?;
        friend.frame(&first.context("the opener speaks first")?)?;
        while !friend.session.is_open() {
            friend.step()?;
        }
        friend.say(&Message::Sync(Sync::default()))?;
        Ok(friend)
    }

    fn their_id(&mut self) -> anyhow::Result<u8> {
        loop {
            if let [20, 0, payload @ ..] = self.message()?.as_ref() {
                let theirs = ExtendedHandshake::parse(payload)?;
                return theirs.m.bs_friends.context("they do not speak it");
            }
        }
    }

    fn message(&mut self) -> anyhow::Result<Bytes> {
        let message = read_frame(&mut self.stream)?;
        self.bytes.extend_from_slice(&message);
        Ok(message)
    }

    fn frame(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        send(&mut self.stream, self.id, frame)
    }

    /// Says something.
    ///
    /// # Errors
    /// The session or the connection is over.
    pub fn say(&mut self, message: &Message) -> anyhow::Result<()> {
        let frame = self.session.send(message, self.began.elapsed())?;
        self.frame(&frame)
    }

    /// Takes one BitTorrent message.
    fn step(&mut self) -> anyhow::Result<()> {
        let message = self.message()?;
        let [20, FRAMES, frame @ ..] = message.as_ref() else {
            return Ok(());
        };
        let received = self.session.receive(frame, self.began.elapsed())?;
        for frame in received.frames {
            self.frame(&frame)?;
        }
        if let Some(Event::Message(message)) = received.event {
            self.heard.push(message);
        }
        Ok(())
    }

    /// Listens until `found` finds what it looks for in what was heard.
    ///
    /// # Errors
    /// `limit` passed, or the session ended, without it.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        found: impl Fn(&[Message]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + limit;
        loop {
            if let Some(value) = found(&self.heard) {
                return Ok(value);
            }
            ensure!(
                self.listen(end)?,
                "{what}: not within {} s; heard {:?}",
                limit.as_secs(),
                self.heard
            );
        }
    }

    /// Takes what comes next, if anything does before `end`.
    ///
    /// # Errors
    /// The session or the connection is over.
    pub fn listen(&mut self, end: Instant) -> anyhow::Result<bool> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // A peek, so that no message is cut in two.
        self.stream.set_read_timeout(Some(left))?;
        match self.stream.peek(&mut [0]) {
            Ok(0) => bail!("the slave closed the connection"),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.step().map(|()| true)
    }
}

/// Our extended handshake.
fn hello(known: &[Known], home: &InfoHash, now: Duration) -> anyhow::Result<Vec<u8>> {
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&now.as_nanos().to_be_bytes());
    let padding = vec![0x33; padding_bytes(known.len())];
    let field = Recognition::new(known, home, Role::Opener, nonce, &padding, false)?;
    let hello = ExtendedHandshake {
        m: ExtensionIds {
            bs_friends: Some(FRAMES),
            ..ExtensionIds::default()
        },
        bs_friends: Some(field.item().encode().into()),
        ..ExtendedHandshake::default()
    };
    Ok(hello.encode())
}

fn send(stream: &mut TcpStream, id: u8, payload: &[u8]) -> anyhow::Result<()> {
    let mut bytes = BytesMut::new();
    let payload = Bytes::copy_from_slice(payload);
    Wire::Extended { id, payload }.encode(&mut bytes);
    Ok(stream.write_all(&bytes)?)
}
