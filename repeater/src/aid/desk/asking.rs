//! Which asks are alive, and the metadata that goes with them.

use std::time::{Duration, Instant};

use bt_wire::address::Scope;
use bt_wire::ids::InfoHash;
use bt_wire::tracker::check_announce_url;
use friends_proto::message::{
    AnnounceUrl, Ask, Decline, DeclineReason, HelpId, MAX_TRACKERS, Message, Meta, MetaAsk,
    TorrentHash,
};
use swarm_core::io::friends as brain;
use swarm_core::io::friends::{FriendFact, FriendId};
use swarm_core::io::{Input, Origin};

use super::Desk;
use crate::aid::count_defence;
use crate::aid::metadata::{self, Fetch, PATIENCE, Part};
use crate::driver::EngineEvent;
use crate::swarms::Add;

/// An ask without an answer, and an offer that is not taken up, are alive for this long.
const UNANSWERED: Duration = Duration::from_secs(20);
/// Asks of one friend that are remembered; the brain takes fewer.
const MAX_ASKS: usize = 64;

/// A help that we asked a friend for.
#[derive(Debug)]
pub(super) struct LiveAsk {
    info_hash: [u8; 20],
    /// None: pieces were reserved; it lives until it is stopped.
    until: Option<Instant>,
}

impl Desk {
    /// Follows the lives of our asks in what the brain says.
    pub(super) fn note_said(&mut self, id: FriendId, said: &brain::HelpMessage) {
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        match said {
            brain::HelpMessage::Ask(ask) => {
                let now = Instant::now();
                person
                    .asked
                    .retain(|_, live| live.until.is_none_or(|until| until > now));
                let live = LiveAsk {
                    info_hash: ask.info_hash,
                    until: Some(now + UNANSWERED),
                };
                person.asked.insert(HelpId(ask.id.0), live);
            }
            brain::HelpMessage::Reserve { id, .. } => {
                if let Some(live) = person.asked.get_mut(&HelpId(id.0)) {
                    live.until = None;
                }
            }
            brain::HelpMessage::Stop { id, .. } | brain::HelpMessage::Decline { id, .. } => {
                person.asked.remove(&HelpId(id.0));
                person.asks.remove(&HelpId(id.0));
            }
            brain::HelpMessage::Offer { .. }
            | brain::HelpMessage::Progress { .. }
            | brain::HelpMessage::Fetching { .. }
            | brain::HelpMessage::Release { .. }
            | brain::HelpMessage::Arrived { .. } => {}
        }
    }

    /// And in what the friend says. An ask that the brain cannot take is declined here.
    pub(super) fn note_heard(&mut self, id: FriendId, message: &Message) {
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        match message {
            Message::Ask(ask) if matches!(ask.torrent, TorrentHash::V1(_)) => {
                if person.asks.len() >= MAX_ASKS {
                    person.asks.pop_first();
                }
                person.asks.insert(ask.id, ask.clone());
            }
            Message::Ask(ask) => {
                let (id_of_help, why) = (ask.id, DeclineReason::Refused);
                let decline = Decline {
                    id: id_of_help,
                    why,
                };
                self.say(id, Message::Decline(decline));
            }
            Message::Decline(decline) => drop(person.asked.remove(&decline.id)),
            Message::Stop(stop) => {
                person.asked.remove(&stop.id);
                person.asks.remove(&stop.id);
            }
            Message::Hello(_)
            | Message::Sync(_)
            | Message::Offer(_)
            | Message::MetaAsk(_)
            | Message::Meta(_)
            | Message::MetaNone(_)
            | Message::Reserve(_)
            | Message::Progress(_)
            | Message::Fetching(_)
            | Message::Iou(_)
            | Message::Release(_)
            | Message::Arrived(_)
            | Message::Bye(_) => {}
        }
    }

    /// Trackers that an ask names: of a public torrent, and such that carry nobody's credentials.
    //= spec/friends.md#ask-trackers
    pub(super) fn trackers_to_tell(&self, ask: &Ask) -> Vec<AnnounceUrl> {
        let TorrentHash::V1(hash) = ask.torrent else {
            return Vec::new();
        };
        let swarm = self.net.swarms.find(InfoHash(hash));
        let Some(swarm) = swarm.filter(|swarm| !ask.private && !swarm.is_private()) else {
            return Vec::new();
        };
        let tiers = swarm.trackers();
        let open = tiers.iter().flatten().filter(|url| is_anybodys(url));
        let urls = open.filter_map(|url| AnnounceUrl::new(url));
        urls.take(MAX_TRACKERS).collect()
    }

    /// A helper wants the metadata of what we asked it for; of nothing else.
    //= spec/friends.md#meta-only-asked
    pub(super) fn metadata_asked(&self, id: FriendId, ask: &MetaAsk) {
        let now = Instant::now();
        let alive = self.people.get(&id).is_some_and(|person| {
            person.asked.values().any(|live| {
                ask.torrent == TorrentHash::V1(live.info_hash)
                    && live.until.is_none_or(|until| until > now)
            })
        });
        let swarm = match ask.torrent {
            TorrentHash::V1(hash) if alive => self.net.swarms.find(InfoHash(hash)),
            TorrentHash::V1(_) | TorrentHash::V2(_) => {
                count_defence("MetadataNotAsked");
                None
            }
        };
        let torrent = swarm.and_then(|swarm| swarm.torrent().cloned());
        let info = torrent.as_ref().map(|torrent| &*torrent.meta.info_bytes);
        let answer = metadata::answer(ask, info).map_or_else(Message::MetaNone, Message::Meta);
        self.say(id, answer);
    }

    /// The brain wants metadata of a friend's torrent.
    //= spec/friends.md#meta-before
    pub(super) async fn fetch_metadata(
        &mut self,
        id: FriendId,
        help: brain::HelpId,
        info_hash: [u8; 20],
    ) {
        let person = self.people.get_mut(&id);
        let ask = person
            .as_ref()
            .and_then(|person| person.asks.get(&HelpId(help.0)).cloned());
        let (Some(person), Some(ask)) = (person, ask) else {
            return self.fact(id, FriendFact::MetaFailed(help)).await;
        };
        if let Some(other) = &person.fetch
            && other.ask.id.0 != help.0
        {
            // One at a time.
            return self.fact(id, FriendFact::MetaFailed(help)).await;
        }
        let fetch = Fetch::new(ask, info_hash);
        let first = fetch.next();
        person.fetch = Some(fetch);
        self.say(id, Message::MetaAsk(first));
    }

    pub(super) async fn metadata_came(&mut self, id: FriendId, meta: &Meta) {
        let Some(fetch) = self.people.get_mut(&id).and_then(|p| p.fetch.as_mut()) else {
            return count_defence("MetadataUnasked");
        };
        match fetch.part(meta) {
            Part::Nothing => count_defence("MetadataUnasked"),
            Part::Next(ask) => self.say(id, Message::MetaAsk(ask)),
            Part::Wrong => {
                count_defence("MetadataWrong");
                self.metadata_failed(id).await;
            }
            Part::Whole(torrent) => {
                let (info_hash, private) = (fetch.info_hash(), torrent.meta.private);
                //= spec/friends.md#offer-private
                if private && (!fetch.ask.private || !self.friends.speaks(true)) {
                    count_defence("Private");
                    return self.metadata_failed(id).await;
                }
                let trackers = if private {
                    Vec::new()
                } else {
                    let urls = fetch.ask.trackers.iter();
                    urls.map(|url| vec![url.as_str().to_owned()]).collect()
                };
                let add = Add {
                    info_hash,
                    name: torrent.meta.display_name(),
                    torrent: Some(*torrent),
                    trackers,
                    origin: Origin::Friend(id),
                    pinned: false,
                };
                if let Some(person) = self.people.get_mut(&id) {
                    person.fetch = None;
                }
                let swarm = self.net.swarms.add(add, None);
                if let Some(known) = swarm.known_fact() {
                    // A driver that is gone needs nothing.
                    drop(self.net.facts.send(Input::Swarm(swarm.id, known)).await);
                }
                let named = self.session_ip(id).and_then(Scope::of);
                let event = EngineEvent::Named(swarm.id, named.unwrap_or(Scope::Global));
                self.net.outbox.push(event);
            }
        }
    }

    pub(super) async fn metadata_refused(&mut self, id: FriendId, torrent: TorrentHash) {
        let person = self.people.get(&id);
        let ours = person
            .and_then(|person| person.fetch.as_ref())
            .is_some_and(|fetch| fetch.is_of(torrent));
        if ours {
            self.metadata_failed(id).await;
        }
    }

    async fn metadata_failed(&mut self, id: FriendId) {
        let fetch = self.people.get_mut(&id).and_then(|p| p.fetch.take());
        if let Some(fetch) = fetch {
            let help = brain::HelpId(fetch.ask.id.0);
            self.fact(id, FriendFact::MetaFailed(help)).await;
        }
    }

    pub(super) async fn give_up_metadata(&mut self) {
        let late = |person: &super::Person| {
            let fetch = person.fetch.as_ref();
            fetch.is_some_and(|fetch| fetch.heard.elapsed() > PATIENCE)
        };
        let late: Vec<FriendId> = self
            .people
            .iter()
            .filter(|(_, person)| late(person))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            count_defence("MetadataSilent");
            self.metadata_failed(id).await;
        }
    }
}

/// A tracker that everybody asks in the same words: without a name, a password or a key in its query.
fn is_anybodys(url: &str) -> bool {
    check_announce_url(url).is_ok_and(|url| {
        url.username().is_empty() && url.password().is_none() && url.query().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::is_anybodys;

    //= spec/friends.md#ask-trackers
    #[test]
    fn trackers_with_credentials_are_not_told() {
        assert!(is_anybodys("http://t.example:6969/announce"));
        for own in [
            "http://me:secret@t.example/announce",
            "http://t.example/announce?passkey=1",
            "file:///etc/passwd",
        ] {
            assert!(!is_anybodys(own), "{own}");
        }
    }
}
