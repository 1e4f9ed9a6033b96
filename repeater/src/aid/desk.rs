//! The desk: between the friends' sessions and the brain. One task; it alone has the ledger.

mod asking;
mod meeting;
mod ordering;
mod seeking;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use friends_proto::friend_code::Hint;
use friends_proto::identity::PublicKey;
use friends_proto::message::{ByeReason, HelpId, Message};
use swarm_core::io::Input;
use swarm_core::io::friends::{FriendFact, FriendId, FriendsInput};
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use tokio::sync::oneshot;

use super::ledger::Books;
use super::roster::{self, RosterError};
use super::talk::{Link, Say, TalkId};
use super::{AidConfig, Circle, Queues, metadata};
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
    /// Decisions of the brain were lost: end all sessions, so that both sides begin anew.
    Restart,
}

/// One friend.
struct Person {
    key: PublicKey,
    hints: Vec<Hint>,
    books: Books,
    /// The one session that counts.
    current: Option<TalkId>,
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
        };
        desk.tell_reach().await;
        for (key, friend) in desk.ledger.list() {
            desk.admit(key, friend).await;
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
        self.seek();
    }

    async fn admit(&mut self, key: PublicKey, friend: SavedFriend) {
        let next = FriendId(u32::try_from(self.numbers.len()).unwrap_or(u32::MAX));
        let id = *self.numbers.entry(key).or_insert(next);
        let books = Books::new(&self.ledger, key);
        let ((given, received), (delivered, disputed)) = (books.totals(), books.kept());
        self.friends.names.write().insert(id, friend.name);
        let person = Person {
            key,
            hints: hints(&friend.hints),
            books,
            current: None,
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
        let nearness = Nearness::Friend;
        self.fact(id, FriendFact::Known { nearness, standing })
            .await;
    }

    async fn command(&mut self, command: Command) {
        match command {
            // Whoever asked may be gone.
            Command::Reload(reply) => drop(reply.send(self.reload().await)),
            Command::Restart => {
                let all: Vec<TalkId> = self.people.values().filter_map(|p| p.current).collect();
                for talk in all {
                    self.bye(talk, ByeReason::Leaving);
                }
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
                    self.friends.names.write().insert(*id, friend.name);
                }
                None => self.admit(key, friend).await,
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
