//! The task that announces and scrapes for all swarms.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bt_wire::address::AddressSource;
use bt_wire::ids::InfoHash;
use bt_wire::tracker::{AnnounceRequest, Event, ScrapeResponse};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use url::Url;

use super::client::{
    Announced, AskError, DEADLINE, SCRAPE_AT_ONCE, STOP_DEADLINE, TrackerClient, refused,
};
use super::messages::{Identity, Registration, SwarmNumber, TrackerCommand, TrackerEvent};
use super::tiers::{Due, Failed, TierState};
use crate::discover::http::{mask, masked};

/// Commands waiting.
pub const COMMANDS: usize = 256;
/// Announces and scrapes under way at once.
const ASKS_AT_ONCE: usize = 32;
/// Events not yet taken, over which nothing new is asked.
const EVENTS_WAITING: usize = 256;
/// How long scrape wishes are gathered, so that one question serves several swarms.
const SCRAPE_GATHER: Duration = Duration::from_millis(250);
/// Peers asked for.
const NUMWANT: u32 = 100;

/// Starts the task on the current runtime. It ends with [`TrackerCommand::Stop`], or when all senders are gone.
/// Events wait in the task while `events` is full, and nothing new is asked meanwhile; commands are always taken.
#[must_use]
pub fn start(
    client: TrackerClient,
    identity: Identity,
    events: mpsc::Sender<TrackerEvent>,
) -> mpsc::Sender<TrackerCommand> {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let task = Task {
        client,
        identity,
        start: Instant::now(),
        swarms: BTreeMap::new(),
        asks: JoinSet::new(),
        stops: JoinSet::new(),
        scrapes: BTreeSet::new(),
        scrape_at: None,
        outbox: VecDeque::new(),
    };
    tokio::spawn(task.run(inbox, events));
    commands
}

struct Swarm {
    info_hash: InfoHash,
    named_by: AddressSource,
    private: bool,
    tiers: TierState,
    joined: bool,
    uploaded: u64,
    downloaded: u64,
    left: u64,
    announcing: Option<AbortHandle>,
}

enum Answer {
    Announce(SwarmNumber, Url, Result<Announced, AskError>),
    Scrape(
        Vec<(SwarmNumber, InfoHash)>,
        Result<ScrapeResponse, AskError>,
    ),
}

struct Task {
    client: TrackerClient,
    identity: Identity,
    start: Instant,
    swarms: BTreeMap<SwarmNumber, Swarm>,
    asks: JoinSet<Answer>,
    stops: JoinSet<()>,
    scrapes: BTreeSet<SwarmNumber>,
    scrape_at: Option<Instant>,
    outbox: VecDeque<TrackerEvent>,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<TrackerCommand>,
        events: mpsc::Sender<TrackerEvent>,
    ) {
        loop {
            self.start_asks();
            let wake = self.wake();
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(TrackerCommand::Stop(reply)) => {
                        self.stop_all().await;
                        // The caller may have stopped waiting.
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    None => return self.stop_all().await,
                },
                // An error is an announce we cut off ourselves.
                Some(done) = self.asks.join_next() => if let Ok(answer) = done { self.answer(answer) },
                Some(_) = self.stops.join_next() => {}
                permit = events.reserve(), if !self.outbox.is_empty() => match (permit, self.outbox.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    // Nobody listens any more.
                    _ => self.outbox.clear(),
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn busy(&self) -> bool {
        self.asks.len() >= ASKS_AT_ONCE || self.outbox.len() >= EVENTS_WAITING
    }

    fn wake(&self) -> Option<Instant> {
        if self.busy() {
            return None;
        }
        let due = self
            .swarms
            .values()
            .filter(|s| s.joined)
            .filter_map(|s| s.tiers.next_due())
            .min();
        due.and_then(|d| self.start.checked_add(d))
            .into_iter()
            .chain(self.scrape_at)
            .min()
    }

    fn start_asks(&mut self) {
        let now = self.now();
        if self.scrape_at.is_some_and(|at| at <= Instant::now()) && !self.busy() {
            self.scrape_at = None;
            self.start_scrapes();
        }
        while !self.busy() {
            let joined = self.swarms.iter_mut().filter(|(_, s)| s.joined);
            let first = joined
                .filter_map(|(n, s)| Some((s.tiers.next_due()?, *n)))
                .min();
            let Some((due, number)) = first.filter(|(due, _)| *due <= now) else {
                return;
            };
            let Some(swarm) = self.swarms.get_mut(&number) else {
                return;
            };
            let Some(ask) = swarm.tiers.take(now.max(due)) else {
                return;
            };
            let request = swarm.request(&self.identity, &ask, Some(NUMWANT));
            let (client, named_by) = (self.client.clone(), swarm.named_by);
            swarm.announcing = Some(self.asks.spawn(async move {
                let answer = client
                    .announce(&ask.url, named_by, &request, DEADLINE)
                    .await;
                Answer::Announce(number, ask.url, answer)
            }));
        }
    }

    /// Groups the wishes by tracker, so that one question serves several swarms.
    fn start_scrapes(&mut self) {
        let mut groups: BTreeMap<Url, Vec<(SwarmNumber, InfoHash, AddressSource)>> =
            BTreeMap::new();
        for number in std::mem::take(&mut self.scrapes) {
            let Some(swarm) = self.swarms.get(&number) else {
                continue;
            };
            let url = swarm
                .tiers
                .scrapable()
                .find(|u| bt_wire::tracker::scrape_url(u).is_some());
            if let Some(url) = url {
                groups.entry(url.clone()).or_default().push((
                    number,
                    swarm.info_hash,
                    swarm.named_by,
                ));
            }
        }
        for (url, wishes) in groups {
            // Only swarms whose trackers were named with the same right share a question.
            for wishes in wishes
                .chunk_by(|a, b| a.2 == b.2)
                .flat_map(|c| c.chunks(SCRAPE_AT_ONCE))
            {
                let Some(named_by) = wishes.first().map(|w| w.2) else {
                    continue;
                };
                let hashes: Vec<InfoHash> = wishes.iter().map(|w| w.1).collect();
                let swarms = wishes.iter().map(|w| (w.0, w.1)).collect();
                let (client, url) = (self.client.clone(), url.clone());
                self.asks.spawn(async move {
                    let answer = client.scrape(&url, named_by, &hashes).await;
                    Answer::Scrape(swarms, answer)
                });
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Announce(number, url, result) => self.announced(number, &url, result),
            Answer::Scrape(swarms, Ok(response)) => {
                for (swarm, hash) in swarms {
                    if let Some(counts) = response.get(hash) {
                        self.outbox
                            .push_back(TrackerEvent::Scraped { swarm, counts });
                    }
                }
            }
            Answer::Scrape(swarms, Err(error)) => {
                let text = format!("scrape: {error}");
                let failed = swarms.into_iter().map(|(swarm, _)| TrackerEvent::Failed {
                    swarm,
                    text: text.clone(),
                });
                self.outbox.extend(failed);
            }
        }
    }

    fn announced(&mut self, number: SwarmNumber, url: &Url, result: Result<Announced, AskError>) {
        let now = self.now();
        // A swarm that was left meanwhile has told the tracker so already.
        let Some(swarm) = self
            .swarms
            .get_mut(&number)
            .filter(|s| s.announcing.is_some())
        else {
            return;
        };
        swarm.announcing = None;
        match result {
            Ok(Announced { response, peers }) => {
                let switched = swarm.tiers.on_ok(now, url, &response);
                if switched && swarm.private {
                    self.outbox
                        .push_back(TrackerEvent::Switched { swarm: number });
                }
                if let Some(warning) = &response.warning {
                    let text = format!("{} warns: {}", masked(url), warning.escape_debug());
                    self.outbox.push_back(TrackerEvent::Failed {
                        swarm: number,
                        text,
                    });
                }
                let (complete, incomplete) = (response.complete, response.incomplete);
                self.outbox.push_back(TrackerEvent::Announced {
                    swarm: number,
                    peers,
                    complete,
                    incomplete,
                });
            }
            Err(error) => {
                let failed = error.failed();
                refused("gone", usize::from(failed == Failed::Gone));
                swarm.tiers.on_error(now, url, failed);
                let text = error.to_string().escape_debug().to_string();
                self.outbox.push_back(TrackerEvent::Failed {
                    swarm: number,
                    text,
                });
            }
        }
    }

    fn command(&mut self, command: TrackerCommand) {
        let now = self.now();
        match command {
            TrackerCommand::Register(registration) => self.register(registration),
            TrackerCommand::Join { swarm, left } => {
                if let Some(swarm) = self.swarms.get_mut(&swarm).filter(|s| !s.joined) {
                    (swarm.joined, swarm.left, swarm.uploaded, swarm.downloaded) =
                        (true, left, 0, 0);
                    swarm.tiers.restart(now);
                }
            }
            TrackerCommand::Leave { swarm } => self.leave(swarm),
            TrackerCommand::Forget { swarm } => {
                self.leave(swarm);
                self.swarms.remove(&swarm);
                self.scrapes.remove(&swarm);
            }
            TrackerCommand::Update {
                swarm,
                uploaded,
                downloaded,
                left,
            } => {
                if let Some(swarm) = self.swarms.get_mut(&swarm) {
                    (swarm.uploaded, swarm.downloaded, swarm.left) = (uploaded, downloaded, left);
                }
            }
            TrackerCommand::NeedPeers { swarm } => {
                if let Some(swarm) = self.swarms.get_mut(&swarm) {
                    swarm.tiers.need_peers(now);
                }
            }
            TrackerCommand::Scrape { swarm } => {
                self.scrapes.insert(swarm);
                self.scrape_at
                    .get_or_insert_with(|| Instant::now() + SCRAPE_GATHER);
            }
            // Handled where the task can end.
            TrackerCommand::Stop(_) => {}
        }
    }

    fn register(&mut self, registration: Registration) {
        let Registration {
            swarm: number,
            info_hash,
            tiers,
            named_by,
            private,
        } = registration;
        self.leave(number);
        let seed = info_hash
            .0
            .iter()
            .fold(self.identity.seed, |s, b| s.rotate_left(8) ^ u64::from(*b));
        let (tiers, bad) = TierState::new(&tiers, seed, self.now());
        for (url, why) in bad {
            refused("url", 1);
            let text = format!("{}: {why}", mask(&url));
            self.outbox.push_back(TrackerEvent::Failed {
                swarm: number,
                text,
            });
        }
        let swarm = Swarm {
            info_hash,
            named_by,
            private,
            tiers,
            joined: false,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            announcing: None,
        };
        self.swarms.insert(number, swarm);
    }

    fn leave(&mut self, number: SwarmNumber) {
        let Some(swarm) = self.swarms.get_mut(&number).filter(|s| s.joined) else {
            return;
        };
        swarm.joined = false;
        if let Some(announcing) = swarm.announcing.take() {
            announcing.abort();
        }
        for ask in swarm.tiers.stop() {
            let request = swarm.request(&self.identity, &ask, Some(0));
            let (client, named_by) = (self.client.clone(), swarm.named_by);
            self.stops.spawn(async move {
                // A tracker that does not hear us forgets us by itself.
                let _ = client
                    .announce(&ask.url, named_by, &request, STOP_DEADLINE)
                    .await;
            });
        }
    }

    async fn stop_all(&mut self) {
        let joined: Vec<SwarmNumber> = self.swarms.keys().copied().collect();
        joined.into_iter().for_each(|n| self.leave(n));
        let all = async { while self.stops.join_next().await.is_some() {} };
        // Out of time: the trackers forget us by themselves.
        let _ = tokio::time::timeout(STOP_DEADLINE, all).await;
    }
}

impl Swarm {
    fn request(&self, identity: &Identity, ask: &Due, numwant: Option<u32>) -> AnnounceRequest {
        // The key lets one tracker recognise us; another tracker must not be able to compare.
        let seed = self.info_hash.0.iter().chain(ask.url.as_str().as_bytes());
        let key = crc32c::crc32c_append(
            crc32c::crc32c(&identity.seed.to_le_bytes()),
            &seed.copied().collect::<Vec<u8>>(),
        );
        AnnounceRequest {
            info_hash: self.info_hash,
            peer_id: identity.peer_id,
            port: identity.port,
            uploaded: self.uploaded,
            downloaded: self.downloaded,
            left: self.left,
            event: ask.event,
            numwant: if ask.event == Event::Stopped {
                Some(0)
            } else {
                numwant
            },
            key: Some(key),
            tracker_id: ask.tracker_id.clone(),
            ipv6: identity.ipv6,
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
