//! The real programs, on loopback: `cargo test --release -p master-link --features real-clients`.
//!
//! Needs `transmission-daemon` and `qbittorrent-nox` (with its old default login admin/adminadmin, up to 4.5) on the PATH.

#![forbid(unsafe_code)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bt_wire::ids::InfoHash;
use master_link::{MasterRpc, MasterTorrent, Received, RpcConfig, RpcError, RpcKind, TorrentState};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

const PIECE: usize = 16384;
const PIECES: usize = 64;
const SIZE: u64 = (PIECE * PIECES) as u64;

/// A program under test, stopped by its process id when dropped.
struct Client {
    process: Child,
    rpc_port: u16,
    peer_port: u16,
    kind: RpcKind,
    _dir: TempDir,
}

impl Drop for Client {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client {
    fn rpc(&self, user: &str, password: &str) -> MasterRpc {
        let url = format!("http://127.0.0.1:{}", self.rpc_port);
        let config = RpcConfig {
            kind: self.kind,
            url,
            user: user.to_owned(),
            password: password.to_owned(),
        };
        MasterRpc::new(&config).expect("config")
    }

    async fn started(self) -> (Self, MasterRpc) {
        let (user, password) = match self.kind {
            RpcKind::Transmission => ("rig", "rig"),
            RpcKind::QBittorrent => ("admin", "adminadmin"),
        };
        let rpc = self.rpc(user, password);
        until("it answers", async || rpc.test().await.ok()).await;
        (self, rpc)
    }

    fn transmission(content: &Content, held: fn(usize) -> bool) -> Self {
        let (dir, rpc_port, peer_port) = (TempDir::new().expect("dir"), free_port(), free_port());
        content.write(dir.path(), held);
        let settings = serde_json::json!({
            "bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1", "peer-port": peer_port, "rpc-port": rpc_port, "rpc-bind-address": "127.0.0.1",
            "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
            "port-forwarding-enabled": false, "rpc-authentication-required": true, "rpc-username": "rig", "rpc-password": "rig",
            "download-dir": dir.path(), "watch-dir": dir.path(), "watch-dir-enabled": true,
            "speed-limit-up": 200, "speed-limit-up-enabled": true,
        });
        fs::write(dir.path().join("settings.json"), settings.to_string()).expect("settings");
        let process = quiet(
            Command::new("transmission-daemon")
                .arg("-f")
                .arg("-g")
                .arg(dir.path()),
            dir.path(),
        );
        Self {
            process,
            rpc_port,
            peer_port,
            kind: RpcKind::Transmission,
            _dir: dir,
        }
    }

    fn qbittorrent(content: &Content, held: fn(usize) -> bool) -> Self {
        let (dir, rpc_port, peer_port) = (TempDir::new().expect("dir"), free_port(), free_port());
        content.write(dir.path(), held);
        let config = dir.path().join("qBittorrent/config");
        fs::create_dir_all(&config).expect("dir");
        let settings = format!(
            "[LegalNotice]\nAccepted=true\n[Preferences]\nWebUI\\Address=127.0.0.1\nWebUI\\Port={rpc_port}\nWebUI\\UseUPnP=false\n\
             [BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\nSession\\Port={peer_port}\n\
             Session\\InterfaceAddress=127.0.0.1\n[Network]\nPortForwardingEnabled=false\n"
        );
        fs::write(config.join("qBittorrent.conf"), settings).expect("settings");
        let mut command = Command::new("qbittorrent-nox");
        command
            .arg(format!("--profile={}", dir.path().display()))
            .arg(format!("--save-path={}", dir.path().display()));
        let process = quiet(command.arg(dir.path().join("content.torrent")), dir.path());
        Self {
            process,
            rpc_port,
            peer_port,
            kind: RpcKind::QBittorrent,
            _dir: dir,
        }
    }
}

/// Starts it with its home in `dir`.
fn quiet(command: &mut Command, dir: &Path) -> Child {
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env(name, dir);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("is it installed?")
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .expect("port")
        .port()
}

/// Asks until there is an answer, for up to a minute.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited a minute until {what}");
}

/// A torrent of one file, and what is in it.
struct Content {
    bytes: Vec<u8>,
    torrent: Vec<u8>,
    info_hash: InfoHash,
}

impl Content {
    fn new() -> Self {
        let bytes: Vec<u8> = (0..PIECE * PIECES / 20)
            .flat_map(|n| Sha1::digest(n.to_le_bytes()))
            .collect();
        let bytes = [bytes.as_slice(), &[0; 20]].concat()[..PIECE * PIECES].to_vec();
        let hashes: Vec<u8> = bytes.chunks(PIECE).flat_map(Sha1::digest).collect();
        let mut info = format!(
            "d6:lengthi{SIZE}e4:name12:content.file12:piece lengthi{PIECE}e6:pieces{}:",
            hashes.len()
        )
        .into_bytes();
        info.extend(hashes);
        info.push(b'e');
        let info_hash = InfoHash(Sha1::digest(&info).into());
        let torrent = [
            b"d8:announce20:http://127.0.0.1:1/a4:info".as_slice(),
            &info,
            b"e",
        ]
        .concat();
        Self {
            bytes,
            torrent,
            info_hash,
        }
    }

    /// The torrent, and the file with the pieces that are not `held` spoilt.
    fn write(&self, dir: &Path, held: fn(usize) -> bool) {
        let mut bytes = self.bytes.clone();
        for (_, piece) in bytes
            .chunks_mut(PIECE)
            .enumerate()
            .filter(|(index, _)| !held(*index))
        {
            piece[0] ^= 1;
        }
        fs::write(dir.join("content.file"), bytes).expect("content");
        fs::write(dir.join("content.torrent"), &self.torrent).expect("torrent");
    }
}

async fn torrent(
    rpc: &MasterRpc,
    hash: InfoHash,
    good: fn(&MasterTorrent) -> bool,
) -> MasterTorrent {
    until("the torrent is as it should be", async || {
        let torrents = rpc.torrents().await.expect("torrents");
        torrents
            .into_iter()
            .find(|torrent| torrent.info_hash == hash && good(torrent))
    })
    .await
}

fn two_of_them(index: usize) -> bool {
    matches!(index, 0 | 3)
}

async fn check_unfinished(client: &Client, rpc: &MasterRpc, content: &Content) {
    let report = rpc.test().await.expect("test");
    assert_eq!(report.peer_port, client.peer_port);
    let seen = torrent(rpc, content.info_hash, |t| {
        t.state == TorrentState::Downloading && t.have_bytes > 0
    })
    .await;
    assert_eq!(
        (seen.have_bytes, seen.left_bytes, seen.total_bytes),
        (2 * PIECE as u64, SIZE - 2 * PIECE as u64, SIZE)
    );
    assert!(!seen.complete && seen.name == "content.file", "{seen:?}");
    let held = rpc
        .held_pieces(content.info_hash)
        .await
        .expect("pieces")
        .expect("metadata");
    assert_eq!(
        (held.len() as usize, held.iter_ones().collect::<Vec<_>>()),
        (PIECES, vec![0, 3])
    );
    assert_eq!(rpc.peers(content.info_hash).await, Ok(vec![]));
    let unknown = InfoHash([0x13; 20]);
    assert!(matches!(
        rpc.held_pieces(unknown).await,
        Err(RpcError::UnknownTorrent { .. })
    ));
    assert!(matches!(
        rpc.peers(unknown).await,
        Err(RpcError::UnknownTorrent { .. })
    ));
    assert_eq!(rpc.export(unknown).await, Ok(None));
    assert!(matches!(
        client.rpc("rig", "wrong").test().await,
        Err(RpcError::WrongPassword { .. })
    ));
}

#[tokio::test]
async fn transmission_tells_what_it_misses() {
    let content = Content::new();
    let (client, rpc) = Client::transmission(&content, two_of_them).started().await;
    check_unfinished(&client, &rpc, &content).await;
    let seen = torrent(&rpc, content.info_hash, |_| true).await;
    assert_eq!((seen.private, seen.exportable), (Some(false), false));
}

#[tokio::test]
async fn qbittorrent_tells_what_it_misses_and_dials_whom_we_name() {
    let content = Content::new();
    let (client, rpc) = Client::qbittorrent(&content, two_of_them).started().await;
    check_unfinished(&client, &rpc, &content).await;
    let exported = rpc
        .export(content.info_hash)
        .await
        .expect("export")
        .expect("metainfo");
    let info = &content.torrent
        [b"d8:announce20:http://127.0.0.1:1/a4:info".len()..content.torrent.len() - 1];
    assert!(exported.windows(info.len()).any(|window| window == info));
    let peer: SocketAddr = (Ipv4Addr::LOCALHOST, 6881).into();
    assert!(matches!(
        rpc.add_peer(InfoHash([0x13; 20]), peer).await,
        Err(RpcError::UnknownTorrent { .. })
    ));

    let (seed, seed_rpc) = Client::transmission(&content, |_| true).started().await;
    let seeding = torrent(&seed_rpc, content.info_hash, |t| {
        t.state == TorrentState::Seeding
    })
    .await;
    assert!(seeding.complete && seeding.left_bytes == 0, "{seeding:?}");
    let peer: SocketAddr = (Ipv4Addr::LOCALHOST, seed.peer_port).into();
    rpc.add_peer(content.info_hash, peer).await.expect("add");
    until("bytes came from the peer we named", async || {
        let peers = rpc.peers(content.info_hash).await.expect("peers");
        peers
            .into_iter()
            .find(|p| p.address == peer && matches!(p.received, Received::Total(1..)))
    })
    .await;
    let peers = seed_rpc.peers(content.info_hash).await.expect("peers");
    assert!(
        peers.iter().any(|p| p.client.starts_with("qBittorrent")),
        "{peers:?}"
    );
    torrent(&rpc, content.info_hash, |t| {
        t.complete && t.state == TorrentState::Seeding
    })
    .await;
}
