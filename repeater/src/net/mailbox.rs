//! What others tell a connection: state, not a queue. Whoever writes never waits; a peer that lets it overflow is
//! dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bt_wire::extension::PexMessage;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use swarm_core::io::{CloseReason, ConnId, Order};
use tokio::sync::Notify;

use crate::aid::talk::Say;
use crate::cache::{Waiter, Wanted};

/// Orders that may wait for one connection. What coalesces does not count twice.
const MAX_ORDERS: usize = 16_384;

/// What may wait to be said to a friend.
const MAX_SAYS: usize = 1024;

/// What has gathered.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Standing orders, oldest first.
    pub(crate) orders: VecDeque<Order>,
    /// Blocks read back from the disk tier.
    pub(crate) blocks: Vec<(Wanted, Option<Bytes>)>,
    /// When the last block of the oldest piece arrived whose HAVE waits in `orders`.
    pub(crate) last_block_in: Option<Instant>,
    /// What a friend is to be told.
    pub(crate) say: Vec<Say>,
    /// Peers to tell of by `ut_pex`.
    pub(crate) pex: Vec<PexMessage>,
    /// The cache may have room now.
    pub(crate) room: bool,
    /// The bucket tree granted this many bytes to send.
    pub(crate) granted_up: u32,
    /// And to receive.
    pub(crate) granted_down: u32,
    /// Somebody else wants it closed.
    pub(crate) close: Option<CloseReason>,
}

/// The mailbox of one connection.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    dirty: AtomicBool,
    notify: Notify,
}

impl Mailbox {
    fn change(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock());
        if !self.dirty.swap(true, Ordering::Release) {
            self.notify.notify_one();
        }
    }

    /// A standing order; the latest word about a thing wins.
    pub(crate) fn order(&self, order: Order) {
        self.change(|mail| mail.push(order));
    }

    /// A piece verified: its HAVE goes out at once.
    pub(crate) fn forward(&self, piece: u32, last_block_in: Instant) {
        self.change(|mail| {
            mail.push(Order::Announce(piece));
            mail.last_block_in.get_or_insert(last_block_in);
        });
    }

    /// The desk has something to say to a friend. A connection that takes none of it is closed.
    pub(crate) fn say(&self, say: Say) {
        self.change(|mail| {
            if mail.say.len() < MAX_SAYS {
                mail.say.push(say);
            } else {
                metrics::counter!("btslave_mailbox_overflows_total").increment(1);
                mail.close = Some(CloseReason::Stuck);
            }
        });
    }

    /// Peers that came and went, for a `ut_pex` message; the brain sends one a minute at most.
    pub(crate) fn introduce(&self, message: PexMessage) {
        self.change(|mail| mail.pex.push(message));
    }

    pub(crate) fn grant(&self, up: u32, down: u32) {
        self.change(|mail| {
            mail.granted_up = mail.granted_up.saturating_add(up);
            mail.granted_down = mail.granted_down.saturating_add(down);
        });
    }

    /// Has a look around: what it waited for may be there.
    pub(crate) fn poke(&self) {
        self.change(|_| {});
    }

    pub(crate) fn close(&self, why: CloseReason) {
        self.change(|mail| mail.close = Some(why));
    }

    /// Swaps what has gathered for `empty`. False if there is nothing.
    pub(crate) fn take(&self, empty: &mut Mail) -> bool {
        if !self.dirty.swap(false, Ordering::Acquire) {
            return false;
        }
        std::mem::swap(&mut *self.mail.lock(), empty);
        true
    }

    /// Returns when there may be something.
    pub(crate) async fn ready(&self) {
        if !self.dirty.load(Ordering::Acquire) {
            self.notify.notified().await;
        }
    }
}

impl Waiter for Mailbox {
    fn room(&self) {
        self.change(|mail| mail.room = true);
    }

    fn block(&self, wanted: Wanted, bytes: Option<Bytes>) {
        self.change(|mail| mail.blocks.push((wanted, bytes)));
    }
}

impl Mail {
    fn push(&mut self, order: Order) {
        match &order {
            Order::Unchoke(_) => self.orders.retain(|old| !matches!(old, Order::Unchoke(_))),
            Order::Interested(_) => self
                .orders
                .retain(|old| !matches!(old, Order::Interested(_))),
            Order::Role(_) => self.orders.retain(|old| !matches!(old, Order::Role(_))),
            Order::Announce(piece) => {
                if self
                    .orders
                    .iter()
                    .any(|old| matches!(old, Order::Announce(other) if other == piece))
                {
                    return;
                }
            }
            Order::Hello { .. }
            | Order::Withdraw(_)
            | Order::Fetch(_)
            | Order::Revoke(_)
            | Order::Close => {}
        }
        if self.orders.len() >= MAX_ORDERS {
            metrics::counter!("btslave_mailbox_overflows_total").increment(1);
            self.close = Some(CloseReason::Stuck);
            return;
        }
        self.orders.push_back(order);
    }
}

/// The mailboxes of all connections.
#[derive(Debug, Default)]
pub(crate) struct Mailboxes(RwLock<HashMap<ConnId, Arc<Mailbox>>>);

impl Mailboxes {
    pub(crate) fn insert(&self, conn: ConnId) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.0.write().insert(conn, Arc::clone(&mailbox));
        mailbox
    }

    pub(crate) fn remove(&self, conn: ConnId) {
        self.0.write().remove(&conn);
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<Arc<Mailbox>> {
        self.0.read().get(&conn).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Mailbox>> {
        self.0.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mailbox: &Mailbox) -> Vec<Order> {
        let mut mail = Mail::default();
        mailbox.take(&mut mail);
        mail.orders.into()
    }

    #[test]
    fn the_latest_word_wins_and_order_is_kept() {
        let mailbox = Mailbox::default();
        mailbox.order(Order::Unchoke(true));
        mailbox.order(Order::Withdraw(7));
        mailbox.order(Order::Announce(7));
        mailbox.order(Order::Announce(7));
        mailbox.order(Order::Unchoke(false));
        assert_eq!(
            drain(&mailbox),
            [
                Order::Withdraw(7),
                Order::Announce(7),
                Order::Unchoke(false)
            ]
        );
        assert_eq!(drain(&mailbox), []);
    }

    #[test]
    fn an_overflowing_mailbox_closes_its_connection() {
        let mailbox = Mailbox::default();
        for piece in 0..=u32::try_from(MAX_ORDERS).expect("small") {
            mailbox.order(Order::Revoke(piece));
        }
        let mut mail = Mail::default();
        assert!(mailbox.take(&mut mail));
        assert_eq!(
            (mail.close, mail.orders.len()),
            (Some(CloseReason::Stuck), MAX_ORDERS)
        );
    }
}
