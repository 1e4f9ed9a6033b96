//! A peer that does exactly what a test tells it to, and writes down what it hears.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bt_wire::bencode::{Document, Item, Limits};
use bt_wire::handshake::{Handshake, LENGTH, Reserved};
use bt_wire::ids::PeerId;
use bt_wire::message::{BlockRef, Message};
use bytes::{Bytes, BytesMut};
use socket::dial;

use crate::content::Torrent;

pub mod friend;
mod script;
pub(crate) mod socket;

pub use script::{Script, nothing, sink, source};

/// What we call `lt_donthave` in our extension handshake.
pub const DONT_HAVE_ID: u8 = 7;
/// A handshake, or a message being sent, may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a raw peer says it can.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// The Fast extension (BEP 6).
    pub fast: bool,
    /// The extension protocol (BEP 10).
    pub extended: bool,
    /// `lt_donthave` (BEP 54); needs `extended`.
    pub dont_have: bool,
}

impl Abilities {
    /// Everything.
    pub const ALL: Self = Self {
        fast: true,
        extended: true,
        dont_have: true,
    };
    /// BEP 3 and nothing else.
    pub const PLAIN: Self = Self {
        fast: false,
        extended: false,
        dont_have: false,
    };

    fn reserved(self) -> Reserved {
        let mut bits = [0; 8];
        bits[5] |= if self.extended { 0x10 } else { 0 };
        bits[7] |= if self.fast { 0x04 } else { 0 };
        Reserved(bits)
    }
}

/// What a raw peer heard, and when.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it was complete.
    pub at: Instant,
    /// What it was.
    pub heard: Heard,
}

/// Something a raw peer hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Any message but a block.
    Message(Message),
    /// A block; its bytes are compared at once and not kept.
    Block {
        /// Its place.
        block: BlockRef,
        /// Whether it is the torrent's.
        correct: bool,
    },
    /// A frame that is no message.
    Garbage(String),
    /// The connection's end: always the last event.
    Closed(String),
}

/// The sending half; clones share the connection.
#[derive(Debug, Clone)]
pub struct Sender {
    stream: Arc<Mutex<TcpStream>>,
}

impl Sender {
    /// Sends a message. That the connection is gone shows as [`Heard::Closed`].
    pub fn send(&self, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends bytes as they are, right or wrong.
    pub fn send_bytes(&self, bytes: &[u8]) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // The reader reports the end; there is nothing to add to that here.
        let _ = stream.write_all(bytes);
    }
}

#[derive(Debug, Default)]
struct Log {
    events: Mutex<Vec<Event>>,
    more: Condvar,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, heard: Heard) {
        self.lock().push(Event {
            at: Instant::now(),
            heard,
        });
        self.more.notify_all();
    }
}

/// A connected raw peer. Dropping it closes the connection.
#[derive(Debug)]
pub struct RawPeer {
    /// What the other side sent as handshake.
    pub theirs: Handshake,
    sender: Sender,
    log: Arc<Log>,
}

impl RawPeer {
    /// Dials `to` from the address `from`.
    ///
    /// # Errors
    /// No connection, or no handshake.
    pub fn connect(
        from: Ipv4Addr,
        to: SocketAddr,
        torrent: &Torrent,
        abilities: Abilities,
        script: Script,
    ) -> anyhow::Result<Self> {
        let stream = dial(from, to).with_context(|| format!("cannot reach {to}"))?;
        Self::shake_hands(stream, torrent, abilities, script)
    }

    /// Takes the next connection that `listener` gets.
    ///
    /// # Errors
    /// No connection, or no handshake, within `limit`.
    pub fn accept(
        listener: &TcpListener,
        limit: Duration,
        torrent: &Torrent,
        abilities: Abilities,
        script: Script,
    ) -> anyhow::Result<Self> {
        let stream = socket::accept(listener, limit)?;
        Self::shake_hands(stream, torrent, abilities, script)
    }

    fn shake_hands(
        mut stream: TcpStream,
        torrent: &Torrent,
        abilities: Abilities,
        script: Script,
    ) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let ours = Handshake {
            reserved: abilities.reserved(),
            info_hash: torrent.info_hash,
            peer_id: peer_id(&stream)?,
        };
        stream.write_all(&ours.encode())?;
        let mut bytes = [0; LENGTH];
        stream
            .read_exact(&mut bytes)
            .context("no handshake came back")?;
        let theirs = Handshake::decode(&bytes).context("their handshake")?;
        stream.set_read_timeout(None)?;
        let sender = Sender {
            stream: Arc::new(Mutex::new(stream.try_clone()?)),
        };
        if abilities.extended && theirs.reserved.extended() {
            sender.send(&hello(abilities));
        }
        let log = Arc::new(Log::default());
        let reader = Reader {
            stream,
            sender: sender.clone(),
            log: log.clone(),
            torrent: torrent.clone(),
        };
        thread::spawn(move || reader.run(script));
        Ok(Self {
            theirs,
            sender,
            log,
        })
    }

    /// The sending half.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Everything heard so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.log.lock().clone()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let events = self.log.lock();
        matches!(
            events.last().map(|event| &event.heard),
            Some(Heard::Closed(_))
        )
    }

    /// Waits until `found` finds what it looks for among all events so far.
    ///
    /// # Errors
    /// `limit` passed, or the connection ended, without it.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&[Event]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + limit;
        let mut events = self.log.lock();
        loop {
            if let Some(value) = found(&events) {
                return Ok(value);
            }
            if let Some(Event {
                heard: Heard::Closed(why),
                ..
            }) = events.last()
            {
                bail!("{what}: the connection ended first: {why}");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "{what}: not within {} s; heard {} events",
                    limit.as_secs(),
                    events.len()
                );
            }
            events = self
                .log
                .more
                .wait_timeout(events, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for a message equal to this one.
    ///
    /// # Errors
    /// As [`RawPeer::wait_for`].
    pub fn wait_for_message(&self, message: &Message, limit: Duration) -> anyhow::Result<Instant> {
        let wanted = Heard::Message(message.clone());
        self.wait_for(&format!("{message:?}"), limit, |events| {
            events
                .iter()
                .find(|event| event.heard == wanted)
                .map(|event| event.at)
        })
    }

    /// The other side's number for an extension, from its last extension handshake; `None` without one.
    #[must_use]
    pub fn extension_id(&self, name: &str) -> Option<u8> {
        let events = self.log.lock();
        let hello = events.iter().rev().find_map(|event| {
            let Heard::Message(Message::Extended { id: 0, payload }) = &event.heard else {
                return None;
            };
            Some(payload.clone())
        })?;
        let document = Document::parse(&hello, &Limits::default()).ok()?;
        let id = document.root().as_dict()?.get("m")?.as_dict()?.int(name)?;
        u8::try_from(id).ok().filter(|id| *id != 0)
    }

    /// Sends `lt_donthave`; false when the other side does not understand it.
    pub fn dont_have(&self, piece: u32) -> bool {
        let Some(id) = self.extension_id("lt_donthave") else {
            return false;
        };
        let payload = Bytes::copy_from_slice(&piece.to_be_bytes());
        self.sender.send(&Message::Extended { id, payload });
        true
    }
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        let stream = self
            .sender
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Already closed is as good; the reader ends either way.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// One id for each address and port of ours.
fn peer_id(stream: &TcpStream) -> anyhow::Result<PeerId> {
    let mut id = *b"-XR0001-000000000000";
    let name = format!("{:012}", u64::from(stream.local_addr()?.port()));
    id[8..].copy_from_slice(&name.as_bytes()[..12]);
    if let SocketAddr::V4(address) = stream.local_addr()? {
        id[8..12].copy_from_slice(&address.ip().octets());
    }
    Ok(PeerId(id))
}

fn hello(abilities: Abilities) -> Message {
    let dont_have = abilities
        .dont_have
        .then_some(("lt_donthave", Item::Int(DONT_HAVE_ID.into())));
    let hello = Item::dict([
        ("m", Item::dict(dont_have)),
        ("reqq", Item::Int(500)),
        ("v", Item::from("raw peer")),
    ]);
    Message::Extended {
        id: 0,
        payload: hello.encode().into(),
    }
}

struct Reader {
    stream: TcpStream,
    sender: Sender,
    log: Arc<Log>,
    torrent: Torrent,
}

impl Reader {
    fn run(mut self, mut script: Script) {
        script(&self.sender, None);
        let why = loop {
            let message = match socket::read_frame(&mut self.stream).map(Message::parse) {
                Ok(Ok(message)) => message,
                Ok(Err(e)) => {
                    self.log.add(Heard::Garbage(e.to_string()));
                    continue;
                }
                Err(e) => break e,
            };
            self.log.add(self.heard(&message));
            script(&self.sender, Some(&message));
        };
        self.log.add(Heard::Closed(why.to_string()));
    }

    fn heard(&self, message: &Message) -> Heard {
        let Message::Piece { piece, begin, data } = message else {
            return Heard::Message(message.clone());
        };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let correct = self
            .torrent
            .block(*piece, *begin, length)
            .is_some_and(|block| block == data);
        Heard::Block {
            block: BlockRef {
                piece: *piece,
                begin: *begin,
                length,
            },
            correct,
        }
    }
}
