//! The desk: between the friends' sessions and the brain. One task; it alone has the ledger.

mod asking;
mod meeting;
mod ordering;
mod seeking;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use friends_proto::identity::PublicKey;
use friends_proto::message::{ByeReason, HelpId, Message};
use swarm_core::io::Input;
use swarm_core::io::friends::{FriendFact, FriendId, FriendsInput};
use swarm_core::policy::tit_for_tat::{Nearness, Standing};
use tokio::sync::oneshot;

use super::ledger::Books;
use super::roster::{self, Friend};
use super::store::{FriendStore, StoreFailed};
use super::talk::{Link, Say, TalkId};
use super::{Circle, FriendsConfig, Queues, metadata};
use crate::net::Network;
use asking::LiveAsk;

/// Between two looks at what waits for its time.
const TICK: Duration = Duration::from_secs(1);

/// What the operator wants.
#[derive(Debug)]
pub(crate) enum Command {
    /// This is the list of friends now.
    Friends(
        Vec<Friend>,
        oneshot::Sender<Result<(), roster::RosterError>>,
    ),
    /// How the accounts stand.
    Accounts(oneshot::Sender<Vec<AccountView>>),
    /// Decisions of the brain were lost: end all sessions, so that both sides begin anew.
    Restart,
}

/// How one friend's account stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// The brain's number for it.
    pub id: FriendId,
    /// The operator's name for it.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// A session stands.
    pub online: bool,
    /// Signed for us, bytes: help we gave.
    pub given_bytes: u64,
    /// Signed by us, bytes: help we received.
    pub received_bytes: u64,
    /// Delivered to it, signed or not, bytes.
    pub delivered_bytes: u64,
    /// What of it was left unsigned at a help's end, bytes.
    pub disputed_bytes: u64,
}

/// One friend.
struct Person {
    friend: Friend,
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
    store: Arc<dyn FriendStore>,
    epoch: friends_proto::ledger::StoreEpoch,
    people: BTreeMap<FriendId, Person>,
    talks: BTreeMap<TalkId, Met>,
    /// Friends that were, so that who comes back has its old number.
    numbers: BTreeMap<PublicKey, FriendId>,
    /// Where friends and their masters can reach us.
    reach: BTreeSet<SocketAddr>,
}

impl Desk {
    /// Opens the ledger and tells the brain of every friend.
    pub(crate) async fn run(net: Arc<Network>, config: FriendsConfig, queues: Queues) {
        let Some(friends) = net.friends.clone() else {
            return;
        };
        let (store, opened) = (Arc::clone(&config.store), Arc::clone(&config.store));
        let reading =
            tokio::task::spawn_blocking(move || (opened.epoch(), opened.accounts())).await;
        let (epoch, records) = match reading {
            Ok((epoch, Ok(records))) => (epoch, records),
            Ok((_, Err(StoreFailed(why)))) => {
                tracing::error!("friends are off: {why}");
                return;
            }
            Err(why) => {
                tracing::error!("friends are off: {why}");
                return;
            }
        };
        let specific = |addr: &&SocketAddr| !addr.ip().is_unspecified();
        let mut desk = Self {
            reach: net
                .listen_addrs()
                .iter()
                .filter(specific)
                .copied()
                .collect(),
            net,
            friends,
            store,
            epoch,
            people: BTreeMap::new(),
            talks: BTreeMap::new(),
            numbers: BTreeMap::new(),
        };
        desk.tell_reach().await;
        for friend in config.friends {
            let key = friend.code.key().as_bytes();
            let record = records.iter().find(|record| record.friend == *key);
            desk.admit(friend, record).await;
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

    async fn admit(
        &mut self,
        friend: Friend,
        record: Option<&friends_proto::ledger::AccountRecord>,
    ) {
        let key = *friend.code.key();
        let next = FriendId(u32::try_from(self.numbers.len()).unwrap_or(u32::MAX));
        let id = *self.numbers.entry(key).or_insert(next);
        let me = self.friends.identity.public_key();
        let books = Books::open(me, key, record, self.epoch);
        let ((given, received), (delivered, disputed)) = (books.totals(), books.kept());
        self.friends.names.write().insert(id, friend.name.clone());
        let person = Person {
            friend,
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
            Command::Friends(list, reply) => {
                let result = self.replace(list).await;
                // Whoever asked may be gone.
                drop(reply.send(result));
            }
            Command::Accounts(reply) => drop(reply.send(self.accounts())),
            Command::Restart => {
                let all: Vec<TalkId> = self.people.values().filter_map(|p| p.current).collect();
                for talk in all {
                    self.bye(talk, ByeReason::Leaving);
                }
            }
        }
    }

    /// Takes a new list: who is new is admitted, who is gone is let go, the others stay.
    async fn replace(&mut self, list: Vec<Friend>) -> Result<(), roster::RosterError> {
        let known = roster::known(&self.friends.identity, &list)?;
        *self.friends.known.write() = Arc::new(known);
        let gone: Vec<FriendId> = self
            .people
            .iter()
            .filter(|(_, person)| {
                !list
                    .iter()
                    .any(|f| f.code.key() == person.friend.code.key())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let talks = self.talks.iter().filter(|(_, met)| met.friend == id);
            for talk in talks.map(|(talk, _)| *talk).collect::<Vec<_>>() {
                self.bye(talk, ByeReason::NotAFriend);
                self.talks.remove(&talk);
            }
            if let Some(person) = self.people.remove(&id) {
                let mut online = self.friends.online.lock();
                online.remove(person.friend.code.key());
            }
            self.fact(id, FriendFact::Removed).await;
        }
        let store = Arc::clone(&self.store);
        let records = tokio::task::spawn_blocking(move || store.accounts()).await;
        let records = records.ok().and_then(Result::ok).unwrap_or_default();
        for friend in list {
            let key = friend.code.key();
            let same = self
                .people
                .iter_mut()
                .find(|(_, person)| person.friend.code.key() == key);
            match same {
                Some((id, person)) => {
                    self.friends.names.write().insert(*id, friend.name.clone());
                    person.friend = friend;
                }
                None => {
                    let record = records
                        .iter()
                        .find(|record| record.friend == *key.as_bytes());
                    self.admit(friend, record).await;
                }
            }
        }
        Ok(())
    }

    fn accounts(&self) -> Vec<AccountView> {
        let view = |(id, person): (&FriendId, &Person)| {
            let ((given_bytes, received_bytes), (delivered_bytes, disputed_bytes)) =
                (person.books.totals(), person.books.kept());
            AccountView {
                id: *id,
                name: person.friend.name.clone(),
                key: *person.friend.code.key(),
                online: person.current.is_some(),
                given_bytes,
                received_bytes,
                delivered_bytes,
                disputed_bytes,
            }
        };
        self.people.iter().map(view).collect()
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
