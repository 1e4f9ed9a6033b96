//! A daemon of fixed answers, for tests of the HTTP layer and the command line.

use control_api::aid::{Asking, Direction, Help, TorrentAsked, Want};
use control_api::feeds::Owner;
use control_api::friends::{AccountCheck, ExportedFriend, SignedRecord};
use control_api::masters::{MasterRpc, TestStep};
use control_api::node::CacheSwarm;
use control_api::rendezvous::{
    HostRendezvous, Hosted, JoinRendezvous, JoinedRendezvous, LeaveRendezvous, LeftRendezvous,
    Rendezvous,
};
use control_api::status::{CacheStatus, FriendsStatus, MonthStatus, Session};
use control_api::swarms::{SwarmState, TrackerRow, WhyTerm};
use parking_lot::Mutex;

use super::*;

/// Answers with fixed data and remembers what was asked of it to change.
#[derive(Debug, Default)]
pub(crate) struct Stub {
    pub(crate) changes: Mutex<Vec<String>>,
}

pub(crate) const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const EVIL: &str = "evil\u{1b}]0;owned\u{7}\u{202e}gnp.iso";

pub(crate) fn row() -> SwarmRow {
    SwarmRow {
        info_hash: HASH.to_owned(),
        name: EVIL.to_owned(),
        state: SwarmState::Joined,
        need: Some(3.25),
        peers: 9,
        interested_peers: 7,
        held_pieces: 12,
        uploaded_bytes: 50 << 20,
        downloaded_bytes: 10 << 20,
        to_master_bytes: 5 << 20,
        pinned: true,
    }
}

fn other_row() -> SwarmRow {
    let info_hash = "0123ffffffffffffffffffffffffffffffffffff".to_owned();
    SwarmRow {
        info_hash,
        name: "Other".to_owned(),
        state: SwarmState::Known,
        need: None,
        pinned: false,
        ..row()
    }
}

pub(crate) fn feed() -> Feed {
    Feed {
        url: "https://feeds.example/rss".to_owned(),
        state: "failed".to_owned(),
        items: 3,
        last_ok: Some(1_700_000_000),
        error: Some("404 Not Found".to_owned()),
        every_s: 900,
        owner: Owner::File,
    }
}

pub(crate) fn master() -> Master {
    let rpc = MasterRpc {
        kind: "transmission".to_owned(),
        url: "http://home:9091/transmission/rpc".to_owned(),
        state: "ok".to_owned(),
        error: None,
    };
    Master {
        name: "home".to_owned(),
        address: "home.example:51413".to_owned(),
        state: "connected".to_owned(),
        rpc: Some(rpc),
        to_master_bytes: 5 << 20,
        missing_pieces: 100,
        share: 0.5,
        owner: Owner::Store,
    }
}

pub(crate) fn month() -> MonthStatus {
    MonthStatus {
        month: Some("2026-11".to_owned()),
        limit_bytes: Some(100 << 30),
        used_bytes: 25 << 30,
        left_bytes: Some(75 << 30),
        spent: false,
        until: Some("2026-12-01".to_owned()),
        time_zone: "Europe/Berlin".to_owned(),
    }
}

pub(crate) const CODE: &str = "bs1q5hs6zgphjl8wd4qr96fx7yuwr8e3aqzjgvxlgzmdw7t6a8a5eg4qk0j7rr";

pub(crate) fn aid() -> Aid {
    let help = Help {
        friend: EVIL.to_owned(),
        direction: Direction::Asked,
        info_hash: Some(HASH.to_owned()),
        name: Some(EVIL.to_owned()),
        state: "running".to_owned(),
        reserved_pieces: 12,
        delivered_bytes: 6 << 20,
        signed_bytes: 5 << 20,
        waits: None,
    };
    let unknown = Help {
        direction: Direction::Given,
        info_hash: None,
        name: None,
        state: "offered".to_owned(),
        waits: Some("others come first".to_owned()),
        ..help.clone()
    };
    let want = Want {
        info_hash: HASH.to_owned(),
        name: Some(EVIL.to_owned()),
        asking: Asking::ByHand,
        master: Some("home".to_owned()),
        missing_bytes: 100 << 20,
        left_bytes: Some(20 << 20),
    };
    Aid {
        helps: vec![help, unknown],
        wants: vec![want],
        pool_bytes: 64 << 20,
    }
}

fn own_succession() -> OwnSuccession {
    OwnSuccession {
        statement: "bss1qqqq".to_owned(),
        code: CODE.to_owned(),
        waits: true,
    }
}

pub(crate) fn friend() -> Friend {
    Friend {
        name: EVIL.to_owned(),
        code: format!("{CODE}@192.0.2.1:6881"),
        online: false,
        state: "synced".to_owned(),
        owed_to_us_bytes: 3 << 30,
        owed_by_us_bytes: 1 << 30,
        given_month_bytes: 20 << 20,
        taken_month_bytes: 0,
        disputed_bytes: 2 << 20,
        last_seen: None,
        added_at: 1_700_000_000,
    }
}

fn account() -> LedgerAccount {
    LedgerAccount {
        friend: CODE.to_owned(),
        name: Some(EVIL.to_owned()),
        replaced_by: Some(CODE.to_owned()),
        own_former: Some(CODE.to_owned()),
        given: Some(SignedRecord {
            total: (3_u64 << 30).to_string(),
            iou: "64".to_owned(),
            signature: "ab".repeat(64),
        }),
        received: None,
        delivered_bytes: 3 << 30,
        disputed_bytes: 2 << 20,
    }
}

pub(crate) fn rendezvous() -> Rendezvous {
    Rendezvous {
        info_hash: HASH.to_owned(),
        name: EVIL.to_owned(),
        role: "host".to_owned(),
        state: "joined".to_owned(),
        magnet: format!("magnet:?xt=urn:btih:{HASH}"),
        announce_url: Some("http://192.0.2.1:6969/announce".to_owned()),
        torrent_url: Some("http://192.0.2.1:6969/rendezvous.torrent".to_owned()),
        error: Some(EVIL.to_owned()),
        peers: 4,
        members: 3,
        listed: 2,
        strangers_let_go: 17,
        trackers: Vec::new(),
        added_at: 1_700_000_000,
    }
}

pub(crate) fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        peer_id: "-BS0100-abcdefghijkl".to_owned(),
        listen: vec!["127.0.0.1:6881".to_owned()],
        uptime_s: 3723,
        paused: false,
        month: month(),
        uploaded_bytes: 5 << 30,
        downloaded_bytes: 1 << 30,
        session: Session {
            uploaded_bytes: 50 << 20,
            downloaded_bytes: 10 << 20,
        },
        wasted_bytes: 0,
        upload_rate_bps: 2 << 20,
        download_rate_bps: 300 << 10,
        upload_limit_bps: Some(2 << 20),
        download_limit_bps: None,
        cache: CacheStatus {
            limit_bytes: 64 << 20,
            used_bytes: 48 << 20,
            pieces: 192,
        },
        connections: 9,
        swarms: vec![row(), other_row()],
        masters: vec![master()],
        friends: FriendsStatus::default(),
        feeds: vec![feed()],
    }
}

impl Stub {
    fn change<T: Send + 'static>(&self, what: String, answer: T) -> Reply<'_, T> {
        self.changes.lock().push(what);
        Box::pin(async { Ok(answer) })
    }
}

fn known(hash: InfoHash) -> Result<(), Refusal> {
    if hash.to_string() == HASH {
        Ok(())
    } else {
        Err(Refusal::not_found(
            format!("swarm {hash}"),
            "nobody named it",
            "see `slavectl swarms`",
        ))
    }
}

impl Control for Stub {
    fn status(&self) -> Reply<'_, Status> {
        Box::pin(async { Ok(status()) })
    }
    fn swarms(&self) -> Reply<'_, Vec<SwarmRow>> {
        Box::pin(async { Ok(status().swarms) })
    }
    fn swarm(&self, hash: InfoHash) -> Reply<'_, SwarmDetail> {
        let tracker = TrackerRow {
            url: "http://t.example:6969".to_owned(),
            tier: 0,
            state: "ok".to_owned(),
            error: None,
        };
        let detail = SwarmDetail {
            row: row(),
            private: false,
            piece_length: Some(262_144),
            piece_count: Some(256),
            total_bytes: Some(64 << 20),
            seeds: Some(1),
            downloaders: None,
            origins: vec!["user".to_owned()],
            trackers: vec![tracker],
        };
        Box::pin(async move { known(hash).map(|()| detail) })
    }
    fn why(&self, hash: InfoHash) -> Reply<'_, Why> {
        let term = WhyTerm {
            term: "prior".to_owned(),
            value: Some(2.5),
            weight: 2.5,
        };
        let why = Why {
            info_hash: HASH.to_owned(),
            name: EVIL.to_owned(),
            state: SwarmState::Joined,
            need: Some(3.25),
            rank: 1,
            of: 2,
            terms: vec![term],
            origins: vec!["feed https://feeds.example/rss".to_owned()],
        };
        Box::pin(async move { known(hash).map(|()| why) })
    }
    fn add_torrent(&self, file: Bytes, options: AddOptions) -> Reply<'_, Added> {
        let added = Added {
            info_hash: HASH.to_owned(),
            name: EVIL.to_owned(),
            new: true,
            pinned: options.pin,
        };
        self.change(
            format!(
                "add_torrent {} bytes, {} peers",
                file.len(),
                options.peers.len()
            ),
            added,
        )
    }
    fn add_source(&self, source: String, options: AddOptions) -> Reply<'_, Added> {
        let added = Added {
            info_hash: HASH.to_owned(),
            name: String::new(),
            new: false,
            pinned: options.pin,
        };
        self.change(
            format!("add_source {source}, {} peers", options.peers.len()),
            added,
        )
    }
    fn leave(&self, hash: InfoHash) -> Reply<'_, ()> {
        match known(hash) {
            Ok(()) => self.change(format!("leave {hash}"), ()),
            Err(refusal) => Box::pin(async { Err(refusal) }),
        }
    }
    fn feeds(&self) -> Reply<'_, Vec<Feed>> {
        Box::pin(async { Ok(vec![feed()]) })
    }
    fn add_feed(&self, feed: AddFeed) -> Reply<'_, FeedsChanged> {
        self.change(
            format!("add_feed {}", feed.url),
            FeedsChanged {
                urls: vec![feed.url],
            },
        )
    }
    fn remove_feed(&self, url: String) -> Reply<'_, FeedsChanged> {
        let refusal = Refusal::conflict(
            format!("feed {url}"),
            "the configuration file names it",
            "remove it there, then `slavectl reload`",
        );
        Box::pin(async { Err(refusal) })
    }
    fn poll_feeds(&self, url: Option<String>) -> Reply<'_, FeedsChanged> {
        self.change(
            format!("poll {url:?}"),
            FeedsChanged {
                urls: vec![feed().url],
            },
        )
    }
    fn masters(&self) -> Reply<'_, Vec<Master>> {
        Box::pin(async { Ok(vec![master()]) })
    }
    fn add_master(&self, add: AddMaster) -> Reply<'_, Master> {
        self.change(
            format!(
                "add_master {} {} rpc={}",
                add.name,
                add.address,
                add.rpc.is_some()
            ),
            master(),
        )
    }
    fn remove_master(&self, name: String) -> Reply<'_, ()> {
        self.change(format!("remove_master {name}"), ())
    }
    fn test_master(&self, name: String) -> Reply<'_, MasterTest> {
        let steps = vec![
            TestStep {
                step: "name".to_owned(),
                ok: true,
                detail: "192.0.2.7".to_owned(),
            },
            TestStep {
                step: "port".to_owned(),
                ok: false,
                detail: "connection refused".to_owned(),
            },
        ];
        Box::pin(async {
            Ok(MasterTest {
                name,
                ok: false,
                steps,
            })
        })
    }
    fn friends(&self) -> Reply<'_, Vec<Friend>> {
        Box::pin(async { Ok(vec![friend()]) })
    }
    fn add_friend(&self, add: AddFriend) -> Reply<'_, Friend> {
        self.change(
            format!("add_friend {} as {:?}", add.code, add.name),
            friend(),
        )
    }
    fn remove_friend(&self, name: String) -> Reply<'_, ()> {
        self.change(format!("remove_friend {name}"), ())
    }
    fn own_code(&self) -> Reply<'_, OwnCode> {
        let own = OwnCode {
            code: CODE.to_owned(),
            key: "ab".repeat(32),
            hints: Vec::new(),
        };
        Box::pin(async { Ok(own) })
    }
    fn own_succession(&self) -> Reply<'_, OwnSuccession> {
        Box::pin(async { Ok(own_succession()) })
    }
    fn replace_own_key(&self) -> Reply<'_, OwnSuccession> {
        self.change("replace_own_key".to_owned(), own_succession())
    }
    fn follow_friend(&self, statement: String) -> Reply<'_, Friend> {
        self.change(format!("follow_friend {statement}"), friend())
    }
    fn ledger(&self) -> Reply<'_, Vec<LedgerAccount>> {
        Box::pin(async { Ok(vec![account()]) })
    }
    fn verify_ledger(&self) -> Reply<'_, LedgerCheck> {
        let check = LedgerCheck {
            ok: false,
            signatures: 1,
            accounts: vec![AccountCheck {
                friend: EVIL.to_owned(),
                ok: false,
                detail: "the IOU is forged".to_owned(),
            }],
        };
        Box::pin(async { Ok(check) })
    }
    fn export_friends(&self) -> Reply<'_, FriendsExport> {
        let export = FriendsExport {
            format: 2,
            owner: CODE.to_owned(),
            friends: vec![ExportedFriend {
                name: EVIL.to_owned(),
                code: CODE.to_owned(),
                added_at: 1_700_000_000,
            }],
            accounts: vec![account()],
            successions: vec![EVIL.to_owned()],
        };
        Box::pin(async { Ok(export) })
    }
    fn import_friends(&self, export: FriendsExport) -> Reply<'_, Imported> {
        let imported = Imported {
            friends_added: 1,
            ious_adopted: 1,
            ious_known: 0,
        };
        self.change(
            format!("import_friends {} accounts", export.accounts.len()),
            imported,
        )
    }
    fn rendezvous(&self) -> Reply<'_, Vec<Rendezvous>> {
        Box::pin(async { Ok(vec![rendezvous()]) })
    }
    fn host_rendezvous(&self, host: HostRendezvous) -> Reply<'_, Hosted> {
        let hosted = Hosted {
            rendezvous: rendezvous(),
            torrent: "ZGU=".to_owned(),
        };
        let (name, at, trackers) = (host.name, host.listen, host.trackers.len());
        self.change(format!("host {name} {at:?} {trackers}"), hosted)
    }
    fn join_rendezvous(&self, join: JoinRendezvous) -> Reply<'_, JoinedRendezvous> {
        let joined = JoinedRendezvous {
            info_hash: HASH.to_owned(),
            name: EVIL.to_owned(),
            new: true,
        };
        let (source, torrent, peers) = (join.source, join.torrent, join.peers.len());
        self.change(format!("join {source:?} {torrent:?} {peers}"), joined)
    }
    fn leave_rendezvous(&self, leave: LeaveRendezvous) -> Reply<'_, LeftRendezvous> {
        let left = LeftRendezvous {
            info_hash: HASH.to_owned(),
        };
        self.change(format!("leave_rendezvous {:?}", leave.info_hash), left)
    }
    fn aid(&self) -> Reply<'_, Aid> {
        Box::pin(async { Ok(aid()) })
    }
    fn ask_for_help(&self, with: HelpWith, bytes: Option<u64>) -> Reply<'_, HelpAsked> {
        let asked = HelpAsked {
            torrents: vec![TorrentAsked {
                info_hash: HASH.to_owned(),
                name: EVIL.to_owned(),
                friends: vec![EVIL.to_owned()],
            }],
            online: 1,
        };
        let with = match with {
            HelpWith::Torrent(hash) => hash.to_string(),
            HelpWith::Master(name) => name,
        };
        self.change(format!("ask_for_help {with} {bytes:?}"), asked)
    }
    fn stop_help(&self, hash: InfoHash) -> Reply<'_, ()> {
        self.change(format!("stop_help {hash}"), ())
    }
    fn cache(&self) -> Reply<'_, CacheReport> {
        let swarm = CacheSwarm {
            info_hash: HASH.to_owned(),
            name: EVIL.to_owned(),
            held_pieces: 12,
            held_bytes: 3 << 20,
        };
        let report = CacheReport {
            limit_bytes: 64 << 20,
            used_bytes: 48 << 20,
            high_water_bytes: 64 << 20,
            memory_limit_bytes: 64 << 20,
            pieces: 192,
            swarms: vec![swarm],
        };
        Box::pin(async { Ok(report) })
    }
    fn pause(&self, paused: bool) -> Reply<'_, ()> {
        self.change(format!("pause {paused}"), ())
    }
    fn reload(&self) -> Reply<'_, Reloaded> {
        self.change(
            "reload".to_owned(),
            Reloaded {
                changed: vec!["limits.upload".to_owned()],
            },
        )
    }
}
