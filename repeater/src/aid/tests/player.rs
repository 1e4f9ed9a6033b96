//! A far end that holds a friend's keys and does what a test says: an honest friend, a cheat, or a stranger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_wire::extension::{ExtendedHandshake, ExtensionIds};
use bt_wire::handshake::{Handshake, LENGTH, Reserved};
use bt_wire::ids::{InfoHash, PeerId};
use bt_wire::message::Message as Wire;
use bytes::{Bytes, BytesMut};
use friends_proto::identity::{Identity, PublicKey, Zeroizing};
use friends_proto::message::Message;
use friends_proto::pair::{PairKey, Role};
use friends_proto::recognition::{Known, Recognition, padding_bytes};
use friends_proto::session::{Event, Secrets, Session, Setup, With};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What we call `bs_friends`.
const FRAMES: u8 = 5;

/// Who plays, towards whom.
#[derive(Clone)]
pub(crate) struct Cast {
    pub(crate) me: Arc<Identity>,
    pub(crate) other: PublicKey,
    pub(crate) nonce: [u8; 16],
    /// We say that we are in open mode.
    pub(crate) open: bool,
    /// Our tag for the other side is among the tags.
    pub(crate) tagged: bool,
}

impl Cast {
    pub(crate) fn new(me: Identity, other: PublicKey) -> Self {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("randomness");
        Self {
            me: Arc::new(me),
            other,
            nonce,
            open: false,
            tagged: true,
        }
    }

    pub(crate) fn pair(&self) -> PairKey {
        PairKey::derive(&self.me, &self.other).expect("two keys")
    }

    fn field(&self, infohash: &InfoHash, role: Role) -> Bytes {
        let known = Known {
            key: self.other,
            pair: self.pair(),
        };
        let known = if self.tagged { vec![known] } else { Vec::new() };
        let padding = vec![0x5a; padding_bytes(known.len())];
        let field = Recognition::new(&known, infohash, role, self.nonce, &padding, self.open);
        field.expect("one friend").item().encode().into()
    }

    /// A session's parameters; `with` is whom we take the other side for.
    fn setup(&self, link: &Link, with: With) -> Setup {
        let (opener, acceptor) = match link.role {
            Role::Opener => (link.our_id, link.their_id),
            Role::Acceptor => (link.their_id, link.our_id),
        };
        let fresh = || {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *bytes).expect("randomness");
            bytes
        };
        Setup {
            role: link.role,
            with,
            infohash: link.infohash.0,
            opener_peer_id: opener.0,
            acceptor_peer_id: acceptor.0,
            identity: Arc::clone(&self.me),
            secrets: Secrets {
                fixed: fresh(),
                ephemeral: fresh(),
            },
        }
    }
}

#[derive(Clone, Copy)]
struct Link {
    infohash: InfoHash,
    role: Role,
    our_id: PeerId,
    their_id: PeerId,
}

/// A connection of a [`Cast`].
pub(crate) struct Player {
    pub(crate) cast: Cast,
    stream: TcpStream,
    link: Link,
    /// Their extended handshake.
    pub(crate) theirs: ExtendedHandshake,
    /// Its payload as it came.
    pub(crate) payload: Vec<u8>,
    session: Option<Session>,
    began: Instant,
    /// By how much our session's clock is ahead, so that its own limit does not hold it.
    ahead: Duration,
}

impl Player {
    /// Connects, and shakes both hands.
    pub(crate) async fn connect(
        cast: &Cast,
        to: std::net::SocketAddr,
        infohash: InfoHash,
    ) -> Option<Self> {
        let stream = TcpStream::connect(to).await.expect("listens");
        Self::shake(cast, stream, infohash, Role::Opener).await
    }

    /// `None`: the other side closed the connection instead.
    pub(crate) async fn shake(
        cast: &Cast,
        mut stream: TcpStream,
        infohash: InfoHash,
        role: Role,
    ) -> Option<Self> {
        let mut peer_id = *b"-XX0000-............";
        // One of its own for each connection, as for each run of a slave.
        peer_id[8..].copy_from_slice(&cast.nonce[..12]);
        let ours = Handshake {
            reserved: Reserved::ours(false),
            info_hash: infohash,
            peer_id: PeerId(peer_id),
        };
        stream.write_all(&ours.encode()).await.ok()?;
        let mut theirs = [0; LENGTH];
        stream.read_exact(&mut theirs).await.ok()?;
        let theirs = Handshake::decode(&theirs).expect("a handshake");
        let link = Link {
            infohash,
            role,
            our_id: ours.peer_id,
            their_id: theirs.peer_id,
        };
        let mut player = Self {
            cast: cast.clone(),
            stream,
            link,
            theirs: ExtendedHandshake::default(),
            payload: Vec::new(),
            session: None,
            began: Instant::now(),
            ahead: Duration::ZERO,
        };
        player.show_field().await;
        loop {
            let message = player.message().await?;
            if let [20, 0, payload @ ..] = message.as_slice() {
                player.theirs = ExtendedHandshake::parse(payload).expect("sound");
                player.payload = payload.to_vec();
                return Some(player);
            }
        }
    }

    /// Our extended handshake.
    pub(crate) async fn show_field(&mut self) {
        let hello = ExtendedHandshake {
            m: ExtensionIds {
                bs_friends: Some(FRAMES),
                ..ExtensionIds::default()
            },
            bs_friends: Some(self.cast.field(&self.link.infohash, self.link.role)),
            ..ExtendedHandshake::default()
        };
        self.send(0, &hello.encode()).await;
    }

    async fn send(&mut self, id: u8, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        let payload = Bytes::copy_from_slice(payload);
        Wire::Extended { id, payload }.encode(&mut bytes);
        self.stream.write_all(&bytes).await.expect("connected");
    }

    /// The next BitTorrent message that is no keep-alive; `None` at the connection's end.
    pub(crate) async fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            let length = self.stream.read_u32().await.ok()? as usize;
            let mut message = vec![0; length];
            self.stream.read_exact(&mut message).await.ok()?;
            if !message.is_empty() {
                return Some(message);
            }
        }
    }

    /// Their next frame.
    pub(crate) async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let [20, FRAMES, frame @ ..] = self.message().await?.as_slice() {
                return Some(frame.to_vec());
            }
        }
    }

    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        let id = self.theirs.m.bs_friends.expect("they speak it");
        self.send(id, frame).await;
    }

    /// Any bytes, as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("connected");
    }

    fn now(&self) -> Duration {
        self.began.elapsed() + self.ahead
    }

    /// As a friend.
    pub(crate) fn friend(&self) -> With {
        With::Friend {
            key: *self.cast.other.as_bytes(),
            pair: self.cast.pair(),
        }
    }

    /// Begins a session; the opener sends its first frame.
    pub(crate) async fn begin(&mut self, with: With) {
        let setup = self.cast.setup(&self.link, with);
        let (session, first) = Session::start(setup, self.now()).expect("starts");
        self.session = Some(session);
        if let Some(frame) = first {
            self.send_frame(&frame).await;
        }
    }

    /// What their next frames bring, up to the first event; `None` when they or the session end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            let frame = self.frame().await?;
            let now = self.now();
            let received = self.session.as_mut()?.receive(&frame, now).ok()?;
            for frame in received.frames {
                self.send_frame(&frame).await;
            }
            if received.event.is_some() {
                return received.event;
            }
        }
    }

    /// Takes one frame, and sends what it calls for.
    pub(crate) async fn step(&mut self) {
        for frame in self.answer().await {
            self.send_frame(&frame).await;
        }
    }

    /// Takes one frame: what it calls for.
    pub(crate) async fn answer(&mut self) -> Vec<Vec<u8>> {
        let frame = self.frame().await.expect("a frame");
        let now = self.now();
        let session = self.session.as_mut().expect("begun");
        session.receive(&frame, now).expect("sound").frames
    }

    /// Says it so many times at once, whatever the limit is.
    pub(crate) async fn flood(&mut self, message: &Message, times: u32) {
        let id = self.theirs.m.bs_friends.expect("they speak it");
        let mut bytes = BytesMut::new();
        for _ in 0..times {
            self.ahead += Duration::from_millis(20);
            let payload = self.seal(message).into();
            Wire::Extended { id, payload }.encode(&mut bytes);
        }
        self.send_raw(&bytes).await;
    }

    /// Opens a session. False: they end it.
    pub(crate) async fn open(&mut self, with: With) -> bool {
        self.begin(with).await;
        matches!(self.event().await, Some(Event::Open { .. }))
    }

    /// The frame of a message of ours.
    pub(crate) fn seal(&mut self, message: &Message) -> Vec<u8> {
        let now = self.now();
        let session = self.session.as_mut().expect("begun");
        session.send(message, now).expect("open")
    }

    pub(crate) async fn say(&mut self, message: &Message) {
        let frame = self.seal(message);
        self.send_frame(&frame).await;
    }

    /// Their next message that `wanted` takes; `None` at the end.
    pub(crate) async fn hear<T>(&mut self, wanted: impl Fn(&Message) -> Option<T>) -> Option<T> {
        loop {
            if let Event::Message(message) = self.event().await?
                && let Some(found) = wanted(&message)
            {
                return Some(found);
            }
        }
    }
}
