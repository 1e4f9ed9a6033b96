//! A slave that dies and starts again: what is in memory is lost, what was signed is not.

use super::{World, friend, network, slave, slave_addr};
use swarm_core::io::friends::{FriendFact, FriendsInput};
use swarm_core::io::{CloseReason, ConnId, Input};
use swarm_core::policy::tit_for_tat::{Nearness, Standing};

impl World {
    /// Slave `i` dies and is back at once, with nothing but its ledger; its friends `others` hear that it went and came.
    pub fn restart(&mut self, i: usize, others: &[usize]) {
        let conns: Vec<ConnId> = self.slaves[i].conns.keys().copied().collect();
        for conn in conns {
            self.close(i, conn, CloseReason::Remote);
        }
        self.mail.retain(|(_, to, _)| *to != i);
        let seed = self.random();
        let fresh = slave(self.slaves[i].plan.clone(), &self.limits, seed);
        let old = core::mem::replace(&mut self.slaves[i], fresh);
        let new = &mut self.slaves[i];
        (new.notes, new.gave, new.handed) = (old.notes, old.gave, old.handed);
        (new.signed, new.began_with, new.helped) = (old.signed, old.began_with, old.helped);
        self.introduce_itself(i);
        for j in others {
            self.meets_again(i, *j, true);
            self.mail
                .retain(|(_, to, input)| to != j || !is_of(input, i));
            let gone = Input::Friends(FriendsInput::Friend(friend(i), FriendFact::Offline));
            self.slaves[*j].inbox.push(gone);
            self.meets_again(*j, i, false);
        }
    }

    fn meets_again(&mut self, i: usize, j: usize, knows_nothing: bool) {
        let given = self.slaves[j].signed.get(&i).copied().unwrap_or(0);
        let received = self.slaves[i].signed.get(&j).copied().unwrap_or(0);
        let standing = Standing {
            given,
            received,
            delivered: given,
            disputed: 0,
        };
        let known = knows_nothing.then_some(FriendFact::Known {
            nearness: Nearness::Friend,
            standing,
        });
        let online = FriendFact::Online {
            smaller: i < j,
            ip: slave_addr(j).ip(),
            network: network(slave_addr(j).ip()),
            endpoint: None,
        };
        let facts = [online, FriendFact::Synced { given, received }];
        let facts = known.into_iter().chain(facts);
        let inputs = facts.map(|fact| Input::Friends(FriendsInput::Friend(friend(j), fact)));
        self.slaves[i].inbox.extend(inputs);
    }
}

/// Something that this friend said.
fn is_of(input: &Input, i: usize) -> bool {
    matches!(input, Input::Friends(FriendsInput::Friend(from, _)) if *from == friend(i))
}
