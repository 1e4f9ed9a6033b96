//! The task that owns all feeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::poll::{FeedEvent, PollError, poll_feed};
use super::spec::{FeedSpec, shown};
use super::state::{FeedLedger, FeedStanding, FeedState, Polled};
use crate::discover::http::Http;

/// Most feeds at once.
pub const MAX_FEEDS: usize = 1000;
/// Polls at once; the others wait in the order they came due, so a slow feed delays none for long.
const POLLS_AT_ONCE: usize = 8;
/// Commands waiting.
const COMMANDS: usize = 64;

/// How a feed stands, for the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedStatus {
    /// As the operator wrote it.
    pub url: String,
    /// Its standing.
    pub standing: FeedStanding,
    /// A poll is running.
    pub polling: bool,
    /// Items in the last good document.
    pub items: usize,
    /// Last good poll, in seconds since the Unix epoch.
    pub last_ok: Option<u64>,
    /// Why the last poll failed.
    pub error: Option<String>,
}

/// Why a feed was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddFeedError {
    /// Already [`MAX_FEEDS`].
    #[error("there are {MAX_FEEDS} feeds already; remove one first")]
    TooMany,
    /// The poller has stopped.
    #[error("btslave is stopping; add the feed again after the next start")]
    Stopped,
}

enum Command {
    Add(Box<FeedSpec>, oneshot::Sender<Result<(), AddFeedError>>),
    Remove(String, oneshot::Sender<bool>),
    PollNow(Option<String>, oneshot::Sender<bool>),
}

/// Talks to the poller. When the last clone is dropped, the poller stops.
#[derive(Debug, Clone)]
pub struct FeedPoller {
    commands: mpsc::Sender<Command>,
    status: Arc<Mutex<Vec<FeedStatus>>>,
}

impl FeedPoller {
    /// Starts the task on the current runtime. What feeds bring goes to `events`; while that is full, polls wait.
    #[must_use]
    pub fn start(http: Http, events: mpsc::Sender<FeedEvent>) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let status = Arc::new(Mutex::new(Vec::new()));
        let task = Task {
            http,
            events,
            status: Arc::clone(&status),
            start: Instant::now(),
            feeds: BTreeMap::new(),
            polls: JoinSet::new(),
            next_id: 0,
        };
        tokio::spawn(task.run(inbox));
        Self { commands, status }
    }

    /// Adds a feed, or changes it where one by that URL is there; it is polled at once.
    pub async fn add(&self, spec: FeedSpec) -> Result<(), AddFeedError> {
        self.ask(|reply| Command::Add(Box::new(spec), reply))
            .await
            .unwrap_or(Err(AddFeedError::Stopped))
    }

    /// Removes a feed, a running poll included. False: there was none.
    pub async fn remove(&self, url: &str) -> bool {
        self.ask(|reply| Command::Remove(url.to_owned(), reply))
            .await
            .unwrap_or(false)
    }

    /// Polls one feed, or all, now. False: there is no such feed.
    pub async fn poll_now(&self, url: Option<&str>) -> bool {
        self.ask(|reply| Command::PollNow(url.map(str::to_owned), reply))
            .await
            .unwrap_or(false)
    }

    /// How all feeds stand, by URL.
    #[must_use]
    pub fn status(&self) -> Vec<FeedStatus> {
        self.status.lock().clone()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

struct Feed {
    id: u64,
    spec: Arc<FeedSpec>,
    state: FeedState,
    /// With the running poll while there is one.
    ledger: FeedLedger,
    polling: Option<AbortHandle>,
}

struct Done {
    url: String,
    id: u64,
    ledger: FeedLedger,
    result: Result<Polled, PollError>,
}

struct Task {
    http: Http,
    events: mpsc::Sender<FeedEvent>,
    status: Arc<Mutex<Vec<FeedStatus>>>,
    start: Instant,
    feeds: BTreeMap<String, Feed>,
    polls: JoinSet<Done>,
    next_id: u64,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            self.start_due();
            self.publish();
            let wake = self.next_due();
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(done) = self.polls.join_next() => {
                    // An error is an aborted poll: its feed was removed.
                    if let Ok(done) = done {
                        self.finish(done);
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// When to look again; None while nothing can start anyway.
    fn next_due(&self) -> Option<Instant> {
        if self.polls.len() >= POLLS_AT_ONCE {
            return None;
        }
        let due = self
            .feeds
            .values()
            .filter(|f| f.polling.is_none())
            .map(|f| f.state.due())
            .min();
        due.and_then(|due| self.start.checked_add(due))
    }

    fn start_due(&mut self) {
        let now = self.now();
        while self.polls.len() < POLLS_AT_ONCE {
            let idle = self
                .feeds
                .values_mut()
                .filter(|f| f.polling.is_none() && f.state.due() <= now);
            let Some(feed) = idle.min_by_key(|f| (f.state.due(), f.id)) else {
                return;
            };
            let (http, events, spec) = (
                self.http.clone(),
                self.events.clone(),
                Arc::clone(&feed.spec),
            );
            let (id, mut ledger) = (feed.id, std::mem::take(&mut feed.ledger));
            let (etag, last_modified) = feed.state.validators();
            let (etag, last_modified) = (etag.map(str::to_owned), last_modified.map(str::to_owned));
            let poll = async move {
                let validators = (etag.as_deref(), last_modified.as_deref());
                let result = poll_feed(&http, &spec, validators, &mut ledger, &events).await;
                Done {
                    url: spec.url().to_owned(),
                    id,
                    ledger,
                    result,
                }
            };
            feed.polling = Some(self.polls.spawn(poll));
        }
    }

    fn finish(&mut self, done: Done) {
        let now = self.now();
        let Some(feed) = self.feeds.get_mut(&done.url).filter(|f| f.id == done.id) else {
            return;
        };
        feed.polling = None;
        feed.ledger = done.ledger;
        match done.result {
            Ok(polled) => {
                let unix = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                feed.state.on_ok(now, unix.as_secs(), polled);
            }
            Err(error) => {
                metrics::counter!("btslave_feed_failures_total").increment(1);
                tracing::warn!("feed {}: {error}", shown(&done.url));
                feed.state.on_error(now, error.reason, error.retry_after);
            }
        }
    }

    fn command(&mut self, command: Command) {
        // A caller that has gone away does not mind an answer that goes nowhere.
        match command {
            Command::Add(spec, reply) => drop(reply.send(self.add(*spec))),
            Command::Remove(url, reply) => drop(reply.send(self.remove(&url))),
            Command::PollNow(url, reply) => drop(reply.send(self.poll_now(url.as_deref()))),
        }
    }

    fn add(&mut self, spec: FeedSpec) -> Result<(), AddFeedError> {
        if self.feeds.len() >= MAX_FEEDS && !self.feeds.contains_key(spec.url()) {
            return Err(AddFeedError::TooMany);
        }
        self.remove(spec.url());
        self.next_id += 1;
        let feed = Feed {
            id: self.next_id,
            state: FeedState::new(spec.every(), self.now()),
            ledger: FeedLedger::default(),
            polling: None,
            spec: Arc::new(spec),
        };
        self.feeds.insert(feed.spec.url().to_owned(), feed);
        Ok(())
    }

    fn remove(&mut self, url: &str) -> bool {
        let Some(feed) = self.feeds.remove(url) else {
            return false;
        };
        if let Some(poll) = feed.polling {
            poll.abort();
        }
        true
    }

    fn poll_now(&mut self, url: Option<&str>) -> bool {
        let now = self.now();
        let mut found = url.is_none();
        for feed in self
            .feeds
            .values_mut()
            .filter(|f| url.is_none_or(|u| u == f.spec.url()))
        {
            feed.state.poll_now(now);
            found = true;
        }
        found
    }

    fn publish(&self) {
        let status = self.feeds.iter().map(|(url, feed)| FeedStatus {
            url: url.clone(),
            standing: feed.state.standing(),
            polling: feed.polling.is_some(),
            items: feed.state.items(),
            last_ok: feed.state.last_ok(),
            error: feed.state.error().map(str::to_owned),
        });
        *self.status.lock() = status.collect();
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
