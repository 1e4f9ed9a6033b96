//! Connections with no torrent behind them: two friends meet on the infohash that only they know (their *home*).
//!
//! Nothing is said but both handshakes and the session's frames; who is no friend after all is let go in 10 s.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bt_wire::extension::{BS_FRIENDS, ExtendedHandshake, ExtensionIds, HANDSHAKE, MAX_HANDSHAKE};
use bt_wire::handshake::Handshake;
use bt_wire::ids::InfoHash;
use bt_wire::message::{Message, frame_length};
use bytes::{Bytes, BytesMut};
use friends_proto::pair::Role;
use friends_proto::recognition::Known;

use super::mailbox::{Mail, Mailbox};
use super::{Network, Stream, handshake, socket};
use crate::aid::home;
use crate::aid::talk::{Link, Talk};

/// For the far end to show that it is a friend.
const RECOGNISED: Duration = Duration::from_secs(10);
/// Without a word for this long we send a keep-alive (BEP 3).
const KEEPALIVE: Duration = Duration::from_secs(100);
/// Without a word from them for this long it is over.
const IDLE: Duration = Duration::from_secs(240);
/// The far end may take this long to take what we say.
const WRITE: Duration = Duration::from_secs(20);
/// Longest message read, in bytes; frames of friends are a quarter of it.
const MAX_MESSAGE: usize = MAX_HANDSHAKE + 2;
/// Bytes read at once.
const READ: usize = 32 << 10;
/// BEP 10's message.
const EXTENDED: u8 = 20;

/// Seconds since the Unix epoch, for the day of a home; its neighbours are taken as well.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

struct Home {
    net: Arc<Network>,
    stream: Stream,
    talk: Talk,
    mailbox: Arc<Mailbox>,
    inbox: Vec<u8>,
    began: Instant,
    heard: Instant,
    sent: Instant,
}

impl Network {
    /// Dials a friend where it may be. True if somebody answered with the pair's home.
    pub(crate) async fn seek_friend(self: Arc<Self>, friend: &Known, addr: SocketAddr) -> bool {
        let infohash = home(&friend.pair, unix_now());
        let dialling = async {
            if self.listen_addrs().contains(&addr) {
                return Err(io::Error::other("our own address"));
            }
            let _turn = self.dials.acquire().await.map_err(io::Error::other)?;
            let device = self.device.as_deref();
            let mut stream = Stream::tcp(socket::dial(addr, &self.listen, device).await?)?;
            let theirs = handshake::outgoing(&self, &mut stream, infohash).await?;
            Ok((stream, theirs))
        };
        let dialled = tokio::select! {
            () = self.stop.cancelled() => return false,
            dialled = dialling => dialled,
        };
        match dialled {
            Ok((stream, theirs)) => {
                let net = Arc::clone(&self);
                let task = run(net, stream, addr, Role::Opener, infohash, theirs);
                self.tasks.spawn(task);
                true
            }
            Err(error) => {
                tracing::debug!(%addr, %error, "looking for a friend");
                false
            }
        }
    }
}

/// Runs a connection on a home to its end.
pub(super) async fn run(
    net: Arc<Network>,
    stream: Stream,
    addr: SocketAddr,
    role: Role,
    infohash: InfoHash,
    theirs: Handshake,
) {
    let Some(friends) = net.friends.clone().filter(|_| theirs.reserved.extended()) else {
        return;
    };
    let id = net.new_conn();
    let mailbox = net.boxes.insert(id);
    let link = Link {
        infohash,
        role,
        addr,
        conn: None,
        mailbox: Arc::clone(&mailbox),
        our_id: net.peer_id,
        their_id: theirs.peer_id,
    };
    if let Some(talk) = Talk::new(&friends, link) {
        let now = Instant::now();
        let mut home = Home {
            net: Arc::clone(&net),
            stream,
            talk,
            mailbox,
            inbox: Vec::new(),
            began: now,
            heard: now,
            sent: now,
        };
        let ended = home.drive(addr).await;
        tracing::debug!(%addr, ?ended, "a meeting with a friend ends");
        home.talk.close().await;
    }
    net.boxes.remove(id);
}

impl Home {
    async fn drive(&mut self, addr: SocketAddr) -> io::Result<()> {
        let hello = ExtendedHandshake {
            m: ExtensionIds {
                bs_friends: Some(BS_FRIENDS),
                ..ExtensionIds::default()
            },
            yourip: Some(addr.ip()),
            bs_friends: Some(self.talk.field()),
            ..ExtendedHandshake::default()
        };
        self.send(vec![(HANDSHAKE, hello.encode().into())]).await?;
        let mut mail = Mail::default();
        loop {
            let mut out = Vec::new();
            if self.mailbox.take(&mut mail) {
                for say in mail.say.drain(..) {
                    self.talk.say(self.now(), say, &mut out).await;
                }
                if mail.close.take().is_some() {
                    return self.send(out).await;
                }
            }
            self.read(&mut out).await?;
            let now = self.now();
            self.talk.tick(now, &mut out).await;
            let spoke = !out.is_empty();
            self.send(out).await?;
            if self.talk.is_over() {
                return Ok(());
            }
            if !spoke {
                self.wait().await?;
            }
        }
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.net.clock.now().0)
    }

    /// Until something comes, or is due.
    async fn wait(&mut self) -> io::Result<()> {
        let mut until = (self.heard + IDLE).min(self.sent + KEEPALIVE);
        if !self.talk.is_met() {
            until = until.min(self.began + RECOGNISED);
        }
        let mut pause = until.saturating_duration_since(Instant::now());
        if let Some(at) = self.talk.deadline() {
            pause = pause.min(at.saturating_sub(self.now()));
        }
        tokio::select! {
            () = self.mailbox.ready() => return Ok(()),
            ready = self.stream.ready(false, true) => return ready.map(drop),
            () = tokio::time::sleep(pause) => {}
        }
        if self.heard.elapsed() >= IDLE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !self.talk.is_met() && self.began.elapsed() >= RECOGNISED {
            metrics::counter!("btslave_friend_defence_total", "defence" => "HomeSilent")
                .increment(1);
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.sent.elapsed() >= KEEPALIVE {
            self.write(&[0; 4]).await?;
        }
        Ok(())
    }

    /// Reads what is there, and hands it to the talk.
    async fn read(&mut self, out: &mut Vec<(u8, Bytes)>) -> io::Result<()> {
        let mut piece = vec![0; READ];
        match self.stream.try_read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                self.heard = Instant::now();
                self.inbox.extend_from_slice(&piece[..got]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(prefix) = self.inbox.first_chunk::<4>() {
            let length = frame_length(*prefix).map_err(io::Error::other)? as usize;
            if length > MAX_MESSAGE {
                return Err(io::Error::other("a message too long"));
            }
            if self.inbox.len() < 4 + length {
                return Ok(());
            }
            let message: Vec<u8> = self.inbox.drain(..4 + length).skip(4).collect();
            if let [EXTENDED, id, payload @ ..] = message.as_slice() {
                self.extended(*id, payload, out).await?;
            }
        }
        Ok(())
    }

    async fn extended(
        &mut self,
        id: u8,
        payload: &[u8],
        out: &mut Vec<(u8, Bytes)>,
    ) -> io::Result<()> {
        let now = self.now();
        match id {
            HANDSHAKE => {
                let theirs = ExtendedHandshake::parse(payload).map_err(io::Error::other)?;
                self.talk.extended(now, &theirs, out).await;
            }
            BS_FRIENDS => self.talk.frame(now, payload, out).await,
            _ => {}
        }
        Ok(())
    }

    async fn send(&mut self, payloads: Vec<(u8, Bytes)>) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for (id, payload) in payloads {
            Message::Extended { id, payload }.encode(&mut bytes);
        }
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.sent = Instant::now();
        tokio::time::timeout(WRITE, self.stream.write_all(bytes))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
