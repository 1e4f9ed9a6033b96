//! Reload: parse, validate, apply at once, or keep the old configuration and say why.

use std::sync::Arc;

use control_api::feeds::Owner;
use control_api::node::Reloaded;

use super::answers::failed;
use super::{Shared, friends_limits, limits};
use crate::config::{self, Config, FriendsMode};
use crate::control::Refusal;

impl Shared {
    pub(super) async fn reload(self: &Arc<Self>) -> Result<Reloaded, Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let what = "configuration";
        let Some(sources) = self.sources.clone() else {
            return Err(Refusal::conflict(
                what,
                "this daemon was not started from one",
                "",
            ));
        };
        let loaded = tokio::task::spawn_blocking(move || config::load(&sources))
            .await
            .map_err(failed)?;
        let new = loaded.map_err(|error| {
            let problems = error
                .problems()
                .iter()
                .map(|problem| format!("{}: {}", problem.place, problem.why));
            let hint = error
                .problems()
                .iter()
                .map(|problem| problem.hint.as_str())
                .find(|hint| !hint.is_empty());
            let why = problems.collect::<Vec<_>>().join("; ");
            Refusal::conflict(
                what,
                why,
                hint.unwrap_or("the old one stands; mend the file and reload again"),
            )
        })?;
        let old = self.known.lock().config.clone();
        let restart = old.needs_restart(&new);
        if !restart.is_empty() {
            let why = format!("{} cannot change while btslave runs", restart.join(", "));
            return Err(Refusal::conflict(
                what,
                why,
                "the old one stands; restart btslave, or take that change back",
            ));
        }
        let changed = self.apply(&old, new).await.map_err(failed)?;
        Ok(Reloaded { changed })
    }

    async fn apply(self: &Arc<Self>, old: &Config, new: Config) -> anyhow::Result<Vec<String>> {
        let mut changed: Vec<String> = changed_keys(old, &new)
            .into_iter()
            .map(ToOwned::to_owned)
            .collect();
        if limits(old) != limits(&new) {
            self.engine.set_limits(limits(&new)).await?;
        }
        let off = |config: &Config| config.friends.mode == FriendsMode::Off;
        if off(&new) {
            let left = self.rest_rendezvous().await?.into_iter();
            changed.extend(left.map(|hash| format!("rendezvous {hash} left")));
        }
        if old.friends != new.friends {
            self.engine.set_friends_limits(friends_limits(&new)).await?;
        }
        if let Some(set_log) = self.set_log.as_ref().filter(|_| old.log != new.log) {
            set_log(&new.log.filter);
        }
        let (feeds_before, masters_before) =
            (self.all_feeds(old).await?, self.all_masters(old).await?);
        self.known.lock().config = new.clone();
        if off(old) {
            let back = self.take_up_rendezvous().await?.into_iter();
            changed.extend(back.map(|hash| format!("rendezvous {hash}")));
        }
        let feeds = self.all_feeds(&new).await?;
        for (feed, _) in &feeds_before {
            if !feeds.iter().any(|(other, _)| other.url == feed.url) {
                changed.push(format!(
                    "feed {} removed",
                    crate::discover::feeds::shown(&feed.url)
                ));
                self.unfollow(&feed.url).await?;
            }
        }
        for (feed, _) in &feeds {
            if !feeds_before.iter().any(|(other, _)| other == feed) {
                changed.push(format!("feed {}", crate::discover::feeds::shown(&feed.url)));
                self.follow(feed).await;
            }
        }
        let masters = self.all_masters(&new).await?;
        for (master, _) in &masters_before {
            if !masters.iter().any(|(other, _)| other.name == master.name) {
                changed.push(format!("master {} removed", master.name));
                self.unserve_master(&master.name).await?;
            }
        }
        for (master, owner) in masters {
            let same =
                |(other, before): &(config::Master, Owner)| *other == master && *before == owner;
            if !masters_before.iter().any(same) {
                changed.push(format!("master {}", master.name));
                self.serve_master(master, owner).await?;
            }
        }
        Ok(changed)
    }
}

/// Plain keys that differ and take effect at once.
fn changed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("limits.upload", old.limits.upload != new.limits.upload),
        (
            "limits.download",
            old.limits.download != new.limits.download,
        ),
        ("limits.month", old.limits.month != new.limits.month),
        (
            "limits.schedule",
            old.limits.schedule != new.limits.schedule,
        ),
        (
            "limits.connections",
            old.limits.connections != new.limits.connections,
        ),
        (
            "repeater.enabled",
            old.repeater.enabled != new.repeater.enabled,
        ),
        (
            "repeater.max_swarms",
            old.repeater.max_swarms != new.repeater.max_swarms,
        ),
        ("friends.mode", old.friends.mode != new.friends.mode),
        ("friends.window", old.friends.window != new.friends.window),
        ("friends.credit", old.friends.credit != new.friends.credit),
        (
            "friends.open_pool",
            old.friends.open_pool != new.friends.open_pool,
        ),
        (
            "friends.private_torrents",
            old.friends.private_torrents != new.friends.private_torrents,
        ),
        ("log.filter", old.log.filter != new.log.filter),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
