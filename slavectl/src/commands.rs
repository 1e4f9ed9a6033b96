//! The commands that ask a daemon.

use control_api::feeds::{AddFeed, Feed, FeedUrl, FeedsChanged, PollFeeds};
use control_api::masters::{AddMaster, AddRpc, Master as MasterRow, MasterName, MasterTest};
use control_api::node::{CacheReport, Nothing, Reloaded};
use control_api::paths;
use control_api::status::Status;
use control_api::swarms::{AddSwarm, AddTorrentQuery, Added, SwarmDetail, SwarmRow, Why};
use serde::Serialize;

use crate::cli::{Aid, Command, Feeds, Friends, Master, Rendezvous, Swarms};
use crate::client::Client;
use crate::failure::Failure;
use crate::show::Page;
use crate::{Io, printable, show, torrent};

/// Fewest digits taken for the beginning of an infohash.
const MIN_PREFIX: usize = 4;

/// A daemon and the way its answers are shown.
pub(crate) struct Session<'a, 'w> {
    pub(crate) client: &'a Client,
    pub(crate) json: bool,
    pub(crate) io: &'a mut Io<'w>,
}

pub(crate) async fn run(
    command: Command,
    client: &Client,
    json: bool,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let mut session = Session { client, json, io };
    match command {
        Command::Status => {
            session
                .show::<Status>(paths::STATUS, show::status::page)
                .await
        }
        Command::Swarms { command } => session.swarms(command.unwrap_or(Swarms::List)).await,
        Command::Feeds { command } => session.feeds(command.unwrap_or(Feeds::List)).await,
        Command::Master { command } => session.masters(command.unwrap_or(Master::List)).await,
        Command::Friends { command } => session.friends(command.unwrap_or(Friends::List)).await,
        Command::Rendezvous { command } => {
            session
                .rendezvous(command.unwrap_or(Rendezvous::Show))
                .await
        }
        Command::Aid { command } => session.aid(command.unwrap_or(Aid::List)).await,
        Command::Cache => session.show::<CacheReport>(paths::CACHE, show::cache).await,
        Command::Pause => {
            session
                .switch(paths::PAUSE, "Paused. `slavectl resume` goes on.")
                .await
        }
        Command::Resume => session.switch(paths::RESUME, "Resumed.").await,
        Command::Reload => {
            let done: Reloaded = client.post(paths::RELOAD, &Nothing {}).await?;
            let text = if done.changed.is_empty() {
                "Nothing changed.".to_owned()
            } else {
                format!("Changed: {}", printable(&done.changed.join(", ")))
            };
            session.answer(&done, &text)
        }
        // These need no daemon and were done before.
        Command::Torrent { .. } | Command::Completions { .. } => Ok(()),
    }
}

impl Session<'_, '_> {
    pub(crate) async fn show<T: serde::de::DeserializeOwned + Serialize>(
        &mut self,
        path: &str,
        page: fn(&T, &mut Page),
    ) -> Result<(), Failure> {
        let answer: T = self.client.get(path).await?;
        if self.json {
            return self.io.json(&answer);
        }
        let mut text = Page::new(self.io);
        page(&answer, &mut text);
        self.io.text(&text.finish())
    }

    pub(crate) fn answer(&mut self, answer: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            self.io.json(answer)
        } else {
            self.io.text(text)
        }
    }

    async fn switch(&mut self, path: &str, text: &str) -> Result<(), Failure> {
        let done: Nothing = self.client.post(path, &Nothing {}).await?;
        self.answer(&done, text)
    }

    async fn swarms(&mut self, command: Swarms) -> Result<(), Failure> {
        match command {
            Swarms::List => {
                self.show::<Vec<SwarmRow>>(paths::SWARMS, |rows, page| {
                    show::swarms::list(rows, page)
                })
                .await
            }
            Swarms::Show { hash } => {
                let path = paths::of_swarm(paths::SWARM, &self.resolve(&hash).await?);
                self.show::<SwarmDetail>(&path, show::swarms::detail).await
            }
            Swarms::Why { hash } => {
                let path = paths::of_swarm(paths::SWARM_WHY, &self.resolve(&hash).await?);
                self.show::<Why>(&path, show::swarms::why).await
            }
            Swarms::Leave { hash } => {
                let hash = self.resolve(&hash).await?;
                let done: Nothing = self
                    .client
                    .post(&paths::of_swarm(paths::SWARM_LEAVE, &hash), &Nothing {})
                    .await?;
                self.answer(&done, &format!("Left {hash}."))
            }
            Swarms::Add { torrent, peer, pin } => {
                let peers: Vec<String> = peer.iter().map(ToString::to_string).collect();
                let added = self.add(torrent, peers, pin).await?;
                let name = if added.name.is_empty() {
                    String::new()
                } else {
                    format!(" {}", printable(&added.name))
                };
                let word = if added.new {
                    "Added"
                } else {
                    "Known already, updated:"
                };
                let pinned = if added.pinned { ", pinned" } else { "" };
                self.answer(
                    &added,
                    &format!("{word} {}{name}{pinned}", printable(&added.info_hash)),
                )
            }
        }
    }

    async fn add(&self, torrent: String, peers: Vec<String>, pin: bool) -> Result<Added, Failure> {
        if torrent::is_link(&torrent)
            || torrent.starts_with("http://")
            || torrent.starts_with("https://")
        {
            return self
                .client
                .post(
                    paths::SWARMS,
                    &AddSwarm {
                        source: torrent,
                        peers,
                        pin,
                    },
                )
                .await;
        }
        let file = torrent::read(torrent.as_ref())?;
        self.client
            .upload(
                &AddTorrentQuery {
                    peers: peers.join(","),
                    pin,
                },
                file,
            )
            .await
    }

    /// The infohash that `text` is, or is the beginning of.
    pub(crate) async fn resolve(&self, text: &str) -> Result<String, Failure> {
        let what = || format!("swarm {text}");
        let hint = "`slavectl swarms` lists them";
        if !text.chars().all(|c| c.is_ascii_hexdigit()) || !(MIN_PREFIX..=40).contains(&text.len())
        {
            let why = format!("is not an infohash or {MIN_PREFIX} or more digits of its beginning");
            return Err(Failure::usage(what(), why, hint));
        }
        let text = text.to_ascii_lowercase();
        if text.len() == 40 {
            return Ok(text);
        }
        let mut rows: Vec<SwarmRow> = self.client.get(paths::SWARMS).await?;
        rows.retain(|row| row.info_hash.starts_with(&text));
        match rows.as_slice() {
            [one] => Ok(one.info_hash.clone()),
            [] => Err(Failure::refused(what(), "no known swarm begins so", hint)),
            many => Err(Failure::refused(
                what(),
                format!("{} swarms begin so", many.len()),
                "give more digits",
            )),
        }
    }

    async fn feeds(&mut self, command: Feeds) -> Result<(), Failure> {
        let (done, word): (FeedsChanged, _) = match command {
            Feeds::List => {
                return self
                    .show::<Vec<Feed>>(paths::FEEDS, |rows, page| show::feeds(rows, page))
                    .await;
            }
            Feeds::Add { url } => (
                self.client.post(paths::FEEDS, &AddFeed { url }).await?,
                "Following",
            ),
            Feeds::Remove { url } => (
                self.client
                    .post(paths::FEEDS_REMOVE, &FeedUrl { url })
                    .await?,
                "Removed",
            ),
            Feeds::Poll { url } => (
                self.client
                    .post(paths::FEEDS_POLL, &PollFeeds { url })
                    .await?,
                "Polling",
            ),
        };
        self.answer(
            &done,
            &format!("{word} {}", printable(&done.urls.join(", "))),
        )
    }

    async fn masters(&mut self, command: Master) -> Result<(), Failure> {
        match command {
            Master::List => {
                self.show::<Vec<MasterRow>>(paths::MASTERS, |rows, page| show::masters(rows, page))
                    .await
            }
            Master::Add { name, address, rpc } => {
                let mut parts = rpc.into_iter().flatten();
                let rpc = parts
                    .next()
                    .zip(parts.next())
                    .map(|(kind, url)| AddRpc { kind, url });
                let add = AddMaster {
                    name,
                    address,
                    share: None,
                    rpc,
                };
                let added: MasterRow = self.client.post(paths::MASTERS, &add).await?;
                let text = format!(
                    "Serving {} at {}. `slavectl master test` tries it.",
                    printable(&added.name),
                    printable(&added.address)
                );
                self.answer(&added, &text)
            }
            Master::Remove { name } => {
                let done: Nothing = self
                    .client
                    .post(paths::MASTERS_REMOVE, &MasterName { name })
                    .await?;
                self.answer(&done, "Removed.")
            }
            Master::Test { name } => {
                let test: MasterTest = self
                    .client
                    .post(paths::MASTERS_TEST, &MasterName { name })
                    .await?;
                let mut page = Page::new(self.io);
                show::master_test(&test, &mut page);
                let text = page.finish();
                self.answer(&test, &text)?;
                if test.ok {
                    return Ok(());
                }
                let failed = test
                    .steps
                    .iter()
                    .filter(|step| !step.ok)
                    .map(|step| step.step.clone());
                let why = format!("failed at: {}", failed.collect::<Vec<_>>().join(", "));
                Err(Failure::refused(
                    format!("master {}", test.name),
                    why,
                    "see the steps above",
                ))
            }
        }
    }
}
