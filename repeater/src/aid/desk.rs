//! The desk: between the friends' sessions and the brain. One task; it alone has the ledger.

mod acquainting;
mod asking;
mod meeting;
mod ordering;
mod seeking;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use friends_proto::friend_code::Hint;
use friends_proto::identity::PublicKey;
use friends_proto::message::{ByeReason, HelpId, Message};
use swarm_core::io::Input;
use swarm_core::io::friends::{FriendFact, FriendId, FriendsInput, FriendsLimits, FriendsMode};
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use tokio::sync::oneshot;

use super::ledger::Books;
use super::roster::{self, RosterError};
use super::talk::{Link, Say, TalkId};
use super::{AidConfig, Circle, Queues, Rules, metadata};
use crate::friends::Friends;
use crate::net::Network;
use crate::store::SavedFriend;
use asking::LiveAsk;

/// Between two looks at what waits for its time.
const TICK: Duration = Duration::from_secs(1);

/// What the operator wants.
#[derive(Debug)]
pub(crate) enum Command {
    /// The list of friends has changed.
    Reload(oneshot::Sender<Result<(), RosterError>>),
    /// The operator's limits have changed.
    Limits(FriendsLimits, oneshot::Sender<()>),
    /// Decisions of the brain were lost: end all sessions, so that both sides begin anew.
    Restart,
}

/// One friend or acquaintance.
struct Person {
    key: PublicKey,
    nearness: Nearness,
    hints: Vec<Hint>,
    books: Books,
    /// The one session that counts.
    current: Option<TalkId>,
    /// When the last one ended.
    gone: Instant,
    /// Helps that we asked it for.
    asked: BTreeMap<HelpId, LiveAsk>,
    /// Helps that it asked us for.
    asks: BTreeMap<HelpId, friends_proto::message::Ask>,
    fetch: Option<metadata::Fetch>,
    seek: seeking::Seek,
}

/// A connection whose far end showed a friend's tag.
struct Met {
    friend: FriendId,
    link: Link,
}

/// See the module.
pub(crate) struct Desk {
    net: Arc<Network>,
    friends: Arc<Circle>,
    /// The list and the ledger.
    ledger: Arc<Friends>,
    people: BTreeMap<FriendId, Person>,
    talks: BTreeMap<TalkId, Met>,
    /// Friends that were, so that who comes back has its old number.
    numbers: BTreeMap<PublicKey, FriendId>,
    next_number: u32,
    /// Where friends and their masters can reach us.
    reach: BTreeSet<SocketAddr>,
}

impl Desk {
    /// Tells the brain of every friend, and works until the network stops.
    pub(crate) async fn run(net: Arc<Network>, config: AidConfig, queues: Queues) {
        let Some(friends) = net.friends.clone() else {
            return;
        };
        let specific = |addr: &&SocketAddr| !addr.ip().is_unspecified();
        let listen = net.listen_addrs().iter();
        let mut desk = Self {
            reach: listen.filter(specific).copied().collect(),
            net,
            friends,
            ledger: config.friends,
            people: BTreeMap::new(),
            talks: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next_number: 0,
        };
        desk.tell_reach().await;
        for (key, friend) in desk.ledger.list() {
            desk.admit(key, friend, Nearness::Friend).await;
        }
        desk.work(queues).await;
    }

    async fn work(&mut self, mut queues: Queues) {
        let stop = self.net.stop.clone();
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(command) = queues.commands.recv() => self.command(command).await,
                Some(order) = queues.orders.recv() => self.carry_out(order).await,
                Some(report) = queues.reports.recv() => self.hear(report).await,
                _ = ticks.tick() => self.tick().await,
                else => return,
            }
        }
    }

    async fn tick(&mut self) {
        self.give_up_metadata().await;
        self.forget_acquaintances().await;
        self.seek();
    }

    async fn admit(&mut self, key: PublicKey, friend: SavedFriend, nearness: Nearness) -> FriendId {
        let next = &mut self.next_number;
        let id = *self.numbers.entry(key).or_insert_with(|| {
            let id = FriendId(*next);
            *next = next.saturating_add(1);
            id
        });
        let books = Books::new(&self.ledger, key);
        let ((given, received), (delivered, disputed)) = (books.totals(), books.kept());
        self.friends.names.write().insert(id, friend.name);
        let person = Person {
            key,
            nearness,
            hints: hints(&friend.hints),
            books,
            current: None,
            gone: Instant::now(),
            asked: BTreeMap::new(),
            asks: BTreeMap::new(),
            fetch: None,
            seek: seeking::Seek::default(),
        };
        self.people.insert(id, person);
        let standing = Standing {
            given,
            received,
            delivered,
            disputed,
        };
        self.fact(id, FriendFact::Known { nearness, standing })
            .await;
        id
    }

    async fn command(&mut self, command: Command) {
        match command {
            // Whoever asked may be gone.
            Command::Reload(reply) => drop(reply.send(self.reload().await)),
            Command::Limits(limits, reply) => {
                self.limit(&limits);
                let _ = reply.send(());
            }
            Command::Restart => self.part_from(|_, _| true, ByeReason::Leaving),
        }
    }

    /// Takes new limits, which the brain has: sessions that they no longer allow end.
    fn limit(&self, limits: &FriendsLimits) {
        *self.friends.rules.write() = Rules::new(limits);
        self.part_from(
            |person, link| !self.allows(person.nearness, link),
            ByeReason::Leaving,
        );
    }

    /// Whether the operator's limits allow a session with such a one, over such a connection.
    fn allows(&self, nearness: Nearness, link: &Link) -> bool {
        let rules = *self.friends.rules.read();
        let private = || {
            let swarm = self.net.swarms.find(link.infohash);
            link.conn.is_some() && swarm.is_some_and(|swarm| swarm.is_private())
        };
        let acquaintance = nearness == Nearness::Acquaintance;
        match rules.mode {
            FriendsMode::Off => false,
            FriendsMode::Known if acquaintance => false,
            FriendsMode::Known | FriendsMode::Open => rules.private_torrents || !private(),
        }
    }

    /// Ends these sessions; the others learn of it when they are over.
    fn part_from(&self, ends: impl Fn(&Person, &Link) -> bool, why: ByeReason) {
        for person in self.people.values() {
            let met = person.current.and_then(|talk| self.talks.get(&talk));
            if let Some(met) = met.filter(|met| ends(person, &met.link)) {
                met.link.mailbox.say(Say::Bye(why));
            }
        }
    }

    /// Takes the list as it is now: who is new is admitted, who is gone is let go, the others stay.
    async fn reload(&mut self) -> Result<(), RosterError> {
        let known = roster::known(&self.ledger)?;
        *self.friends.known.write() = Arc::new(known);
        let list = self.ledger.list();
        let gone: Vec<FriendId> = self
            .people
            .iter()
            .filter(|(_, person)| person.nearness == Nearness::Friend)
            .filter(|(_, person)| !list.iter().any(|(key, _)| *key == person.key))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let talks = self.talks.iter().filter(|(_, met)| met.friend == id);
            for talk in talks.map(|(talk, _)| *talk).collect::<Vec<_>>() {
                self.bye(talk, ByeReason::NotAFriend);
                self.talks.remove(&talk);
            }
            if let Some(person) = self.people.remove(&id) {
                self.friends.online.lock().remove(&person.key);
            }
            self.fact(id, FriendFact::Removed).await;
        }
        for (key, friend) in list {
            let same = self.people.iter_mut().find(|(_, person)| person.key == key);
            match same {
                Some((id, person)) => {
                    person.hints = hints(&friend.hints);
                    let id = *id;
                    self.friends.names.write().insert(id, friend.name);
                    self.befriend(id).await;
                }
                None => {
                    self.admit(key, friend, Nearness::Friend).await;
                }
            }
        }
        Ok(())
    }

    async fn fact(&self, id: FriendId, fact: FriendFact) {
        self.input(FriendsInput::Friend(id, fact)).await;
    }

    async fn input(&self, input: FriendsInput) {
        // A driver that is gone needs nothing.
        drop(self.net.facts.send(Input::Friends(input)).await);
    }

    async fn tell_reach(&self) {
        let reach = self.reach.iter().copied().collect();
        self.input(FriendsInput::Reach(reach)).await;
    }

    /// Says something in the friend's session, if one stands.
    fn say(&self, id: FriendId, message: Message) {
        let talk = self.people.get(&id).and_then(|person| person.current);
        if let Some(met) = talk.and_then(|talk| self.talks.get(&talk)) {
            met.link.mailbox.say(Say::Message(message));
        }
    }

    fn bye(&self, talk: TalkId, why: ByeReason) {
        if let Some(met) = self.talks.get(&talk) {
            met.link.mailbox.say(Say::Bye(why));
        }
    }

    /// Where the friend's session comes from.
    fn session_ip(&self, id: FriendId) -> Option<IpAddr> {
        let talk = self.people.get(&id)?.current?;
        Some(self.talks.get(&talk)?.link.addr.ip().to_canonical())
    }
}

/// The hints that can be read; the list holds those of a code that was.
fn hints(saved: &[String]) -> Vec<Hint> {
    saved.iter().filter_map(|hint| hint.parse().ok()).collect()
}
