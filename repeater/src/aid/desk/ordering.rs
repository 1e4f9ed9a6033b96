//! The brain's decisions, carried out.

use bt_wire::extension::{PexMessage, PexPeer};
use friends_proto::ledger::SignRefusal;
use friends_proto::message::{HelpId, Message, NewIou};
use swarm_core::io::ConnId;
use swarm_core::io::friends as brain;
use swarm_core::io::friends::{FriendFact, FriendId, FriendsOutput};

use super::Desk;
use crate::aid::count_defence;
use crate::aid::ledger::Signing;
use crate::aid::words;
use crate::driver::EngineEvent;

impl Desk {
    pub(super) async fn carry_out(&mut self, order: FriendsOutput) {
        match order {
            FriendsOutput::Send(id, said) => {
                self.note_said(id, &said);
                for mut message in words::to_wire(said) {
                    if let Message::Ask(ask) = &mut message {
                        ask.trackers = self.trackers_to_tell(ask);
                    }
                    self.say(id, message);
                }
            }
            FriendsOutput::Sign(id, total, help) => self.sign(id, total, help).await,
            FriendsOutput::Keep(id, delivered, disputed) => {
                let Some(person) = self.people.get(&id) else {
                    return;
                };
                if let Err(why) = person.books.keep(delivered, disputed).await {
                    tracing::error!("what a friend was given could not be written down: {why}");
                }
            }
            FriendsOutput::FetchMeta {
                friend,
                help,
                info_hash,
            } => self.fetch_metadata(friend, help, info_hash).await,
            FriendsOutput::Reach(id, addrs) => {
                let from = self.session_ip(id);
                for addr in addrs {
                    //= spec/friends.md#deliver-proved
                    if from == Some(addr.ip().to_canonical()) {
                        self.fact(id, FriendFact::Reached(addr)).await;
                    } else {
                        count_defence("EndpointNotProved");
                    }
                }
            }
            FriendsOutput::Invite(master, swarm, addr) => {
                let event = EngineEvent::Invite(master, swarm, addr);
                self.net.outbox.push(event);
            }
            FriendsOutput::Introduce {
                conn,
                added,
                dropped,
            } => self.introduce(conn, added, dropped),
            FriendsOutput::Watch(master, swarm, on) => {
                let event = EngineEvent::Watch(master, swarm, on);
                self.net.outbox.push(event);
            }
        }
    }

    //= spec/friends.md#pex-flags
    fn introduce(
        &self,
        conn: ConnId,
        added: Vec<std::net::SocketAddr>,
        dropped: Vec<std::net::SocketAddr>,
    ) {
        let added = added.into_iter().map(|addr| PexPeer { addr, flags: 0 });
        let message = PexMessage {
            added: added.collect(),
            dropped,
            ignored: 0,
        };
        if let Some(mailbox) = self.net.boxes.get(conn) {
            mailbox.introduce(message);
        }
    }

    /// Durable first, then sent, then told. A store that fails ends the session: nothing is signed until it is opened
    /// anew.
    async fn sign(&mut self, id: FriendId, total: u64, help: Option<brain::HelpId>) {
        let Some(person) = self.people.get(&id) else {
            return;
        };
        match person.books.sign(total).await {
            Ok(Signing::Signed(iou)) => {
                let help = help.map(|help| HelpId(help.0));
                self.say(id, Message::Iou(NewIou { iou, help }));
                self.fact(id, FriendFact::Signed(total)).await;
            }
            Ok(Signing::Before(held)) => self.fact(id, FriendFact::Signed(held)).await,
            Ok(Signing::Refused(why)) => {
                tracing::warn!(friend = %self.friends.name(id), "no IOU was signed: {why}");
                count_defence(match why {
                    SignRefusal::NotDebtor => "NotDebtor",
                    SignRefusal::NotSynced
                    | SignRefusal::Unpersisted
                    | SignRefusal::NotMore { .. }
                    | SignRefusal::Terms(_) => "SigningRefused",
                });
            }
            Err(why) => {
                tracing::error!("an IOU could not be made durable and was not sent: {why}");
                self.unbearable(id, &why);
            }
        }
    }
}
