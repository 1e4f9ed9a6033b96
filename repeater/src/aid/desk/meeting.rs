//! Sessions come and go; what friends say in them.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use friends_proto::message::{ByeReason, Message};
use friends_proto::pair::Role;
use friends_proto::session::{Stays, stays};
use swarm_core::io::friends::{self as brain, FriendFact, FriendId, FriendsInput};
use swarm_core::policy::pool::NetworkTag;
use swarm_core::policy::tit_for_tat::Nearness;

use super::{Desk, Met};
use crate::aid::ledger::{Books, Unbearable};
use crate::aid::talk::{Link, Report, Say, TalkId};
use crate::aid::words;

/// Most addresses of ours that friends told us of.
const MAX_REACH: usize = 4;

impl Desk {
    pub(super) async fn hear(&mut self, report: Report) {
        match report {
            Report::Met {
                talk,
                key,
                link,
                acquaintance,
            } => {
                let known = self.people.iter().find(|(_, person)| person.key == key);
                let (friend, why) = match known {
                    Some((id, _)) => (Some(*id), ByeReason::Other),
                    None if acquaintance => (self.meet_acquaintance(key).await, ByeReason::Other),
                    // Removed a moment ago.
                    None => (None, ByeReason::NotAFriend),
                };
                let Some(friend) = friend else {
                    return link.mailbox.say(Say::Bye(why));
                };
                let link = *link;
                self.talks.insert(talk, Met { friend, link });
                self.link(friend).await;
            }
            Report::Open { talk, seen } => self.opened(talk, seen).await,
            Report::Said { talk, message } => {
                if let Some(id) = self.friend_of(talk) {
                    self.heard(id, message).await;
                }
            }
            Report::Over { talk } => self.over(talk).await,
            Report::Gone { talk } => {
                self.over(talk).await;
                self.talks.remove(&talk);
            }
        }
    }

    /// Whose one session this is.
    fn friend_of(&self, talk: TalkId) -> Option<FriendId> {
        let id = self.talks.get(&talk)?.friend;
        let current = self.people.get(&id)?.current;
        (current == Some(talk)).then_some(id)
    }

    fn opener(&self, link: &Link, id: FriendId) -> friends_proto::identity::PublicKey {
        let theirs = self.people.get(&id).map(|p| p.key);
        let ours = self.friends.identity.public_key();
        match link.role {
            Role::Opener => ours,
            Role::Acceptor => theirs.unwrap_or(ours),
        }
    }

    /// A session stands. Of two the one stays that both sides agree on.
    //= spec/friends.md#session-one
    async fn opened(&mut self, talk: TalkId, seen: Option<IpAddr>) {
        let Some(met) = self.talks.get(&talk) else {
            return;
        };
        let (id, link) = (met.friend, met.link.clone());
        if let Some(conn) = link.conn {
            self.input(FriendsInput::Stood(conn)).await;
        }
        let person = self.people.get(&id);
        let Some((nearness, current)) = person.map(|person| (person.nearness, person.current))
        else {
            return;
        };
        // It was begun before the limits were what they are.
        if !self.allows(nearness, &link) {
            return self.bye(talk, ByeReason::Leaving);
        }
        if let Some(older) = current.and_then(|older| Some((older, self.talks.get(&older)?))) {
            let (older, before) = older;
            let which = stays(&self.opener(&before.link, id), &self.opener(&link, id));
            let ends = match which {
                Stays::Older => talk,
                Stays::Newer => older,
            };
            metrics::counter!("btslave_friend_sessions_duplicate_total").increment(1);
            self.bye(ends, ByeReason::Duplicate);
            if ends == talk {
                return;
            }
        }
        self.begins(id, talk, &link).await;
        let near = self.people.get(&id).map(|person| person.nearness);
        if near == Some(Nearness::Friend) {
            self.learn_reach(seen).await;
        }
    }

    async fn begins(&mut self, id: FriendId, talk: TalkId, link: &Link) {
        let me = self.friends.identity.public_key();
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        let key = person.key;
        person.current = Some(talk);
        person.seek.found();
        let sync = person.books.begin_session();
        let books = person.books.clone();
        tracing::info!(friend = %self.friends.name(id), "online");
        self.friends.online.lock().insert(key);
        self.say(id, Message::Sync(sync));
        let ip = link.addr.ip().to_canonical();
        let online = FriendFact::Online {
            smaller: me < key,
            ip,
            network: network(ip),
            endpoint: (link.role == Role::Opener).then_some(link.addr),
        };
        self.fact(id, online).await;
        self.link(id).await;
        self.note_seen(&books, true).await;
    }

    /// A friend says from where it sees us: with our port that is where others may find us, when we listen everywhere.
    async fn learn_reach(&mut self, seen: Option<IpAddr>) {
        let Some(seen) = seen.map(|ip| ip.to_canonical()) else {
            return;
        };
        let everywhere =
            |addr: &&SocketAddr| addr.ip().is_unspecified() && addr.is_ipv4() == seen.is_ipv4();
        let port = self.net.listen_addrs().iter().find(everywhere);
        let Some(addr) = port.map(|addr| SocketAddr::new(seen, addr.port())) else {
            return;
        };
        if self.reach.len() < MAX_REACH && self.reach.insert(addr) {
            self.tell_reach().await;
        }
    }

    /// Connections that showed the friend's tag, and come from where its session does, are its slave's.
    async fn link(&self, id: FriendId) {
        let Some(from) = self.session_ip(id) else {
            return;
        };
        let theirs = self.talks.values().filter(|met| met.friend == id);
        let near = theirs.filter(|met| met.link.addr.ip().to_canonical() == from);
        for conn in near.filter_map(|met| met.link.conn) {
            self.fact(id, FriendFact::Linked(conn)).await;
        }
    }

    /// If it was the session that counts, the friend is offline, and another connection may begin one.
    async fn over(&mut self, talk: TalkId) {
        let Some(id) = self.friend_of(talk) else {
            return;
        };
        let Some(person) = self.people.get_mut(&id) else {
            return;
        };
        person.current = None;
        person.gone = Instant::now();
        person.fetch = None;
        let books = person.books.clone();
        tracing::info!(friend = %self.friends.name(id), "offline");
        self.friends.online.lock().remove(&person.key);
        self.fact(id, FriendFact::Offline).await;
        self.note_seen(&books, false).await;
        let others = self.talks.iter().filter(|(other, _)| **other != talk);
        for (_, met) in others.filter(|(_, met)| met.friend == id) {
            met.link.mailbox.say(Say::Begin);
        }
    }

    async fn note_seen(&self, books: &Books, online: bool) {
        if let Err(why) = books.seen(online).await {
            tracing::warn!("when a friend was last seen could not be written down: {why}");
        }
    }

    async fn heard(&mut self, id: FriendId, message: Message) {
        let Some(books) = self.people.get(&id).map(|person| person.books.clone()) else {
            return;
        };
        match &message {
            Message::Sync(sync) => {
                let synced = books.sync(sync).await;
                let (given, received) = books.totals();
                match synced {
                    Ok(()) => self.fact(id, FriendFact::Synced { given, received }).await,
                    Err(why) => self.unbearable(id, &why),
                }
            }
            Message::Iou(new) => {
                let paid = new.help.map(|help| brain::HelpId(help.0));
                match books.receive(&new.iou).await {
                    Ok(Some(total)) => self.fact(id, FriendFact::Iou(total, paid)).await,
                    Ok(None) => {}
                    Err(why) => self.unbearable(id, &why),
                }
            }
            Message::MetaAsk(ask) => self.metadata_asked(id, ask),
            Message::Meta(meta) => self.metadata_came(id, meta).await,
            Message::MetaNone(none) => self.metadata_refused(id, none.torrent).await,
            Message::Ask(_)
            | Message::Offer(_)
            | Message::Decline(_)
            | Message::Reserve(_)
            | Message::Progress(_)
            | Message::Fetching(_)
            | Message::Release(_)
            | Message::Arrived(_)
            | Message::Stop(_) => {
                self.note_heard(id, &message);
                if let Some(said) = words::from_wire(&message) {
                    self.fact(id, FriendFact::Message(said)).await;
                }
            }
            Message::Hello(_) | Message::Bye(_) => {}
        }
    }

    /// The session ends, the friend stays one.
    pub(super) fn unbearable(&self, id: FriendId, why: &Unbearable) {
        let name = self.friends.name(id);
        tracing::warn!(friend = %name, "its session ends: {why}");
        if let Some(talk) = self.people.get(&id).and_then(|person| person.current) {
            self.bye(talk, ByeReason::Other);
        }
    }
}

/// Equal for two addresses of one /24 (IPv4) or /56 (IPv6).
fn network(ip: IpAddr) -> NetworkTag {
    NetworkTag(match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8),
        // The first bit keeps the two families apart.
        IpAddr::V6(ip) => (1 << 63) | u64::try_from(ip.to_bits() >> 72).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_24_or_a_56() {
        let tag = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(tag("10.1.2.3"), tag("10.1.2.200"));
        assert_ne!(tag("10.1.2.3"), tag("10.1.3.3"));
        assert_eq!(tag("2001:db8:0:1100::1"), tag("2001:db8:0:11ff::1"));
        assert_ne!(tag("2001:db8:0:1100::1"), tag("2001:db8:0:1200::1"));
    }
}
