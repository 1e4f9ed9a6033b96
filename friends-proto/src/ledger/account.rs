//! One friend's account: both directions, the sync, and signing in two steps.

use super::StoreEpoch;
use super::outcome::{
    Contradiction, Direction, NotOurs, Receipt, SignRefusal, State, SyncReport, WrongToken,
};
use super::record::{AccountRecord, IouRecord, OpenError};
use crate::identity::{Identity, PublicKey};
use crate::iou::{Iou, SignedIou};

/// Both directions with one friend.
#[derive(Debug)]
pub struct Account {
    me: PublicKey,
    friend: PublicKey,
    epoch: StoreEpoch,
    given: Option<SignedIou>,
    received: Option<SignedIou>,
    /// Signed, and not let out before it is durable.
    unpersisted: Option<SignedIou>,
    synced_at: Option<u64>,
    /// The friend has shown what it holds, in this session.
    session_synced: bool,
    delivered_bytes: u64,
    disputed_bytes: u64,
}

/// Stands for an IOU that was signed and is not durable yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpersisted {
    friend: PublicKey,
    total_bytes: u64,
}

impl Account {
    /// An account with nothing in it, for a friend of whom the store has no record.
    #[must_use]
    pub fn new(me: PublicKey, friend: PublicKey, epoch: StoreEpoch) -> Self {
        Self {
            me,
            friend,
            epoch,
            given: None,
            received: None,
            unpersisted: None,
            synced_at: None,
            session_synced: false,
            delivered_bytes: 0,
            disputed_bytes: 0,
        }
    }

    /// An account as the store has it; every signature is checked again.
    ///
    /// # Errors
    /// [`OpenError`] when the record cannot be believed; then it is set aside, and [`Account::new`] with a broken epoch
    /// takes its place.
    //= spec/iou.md#open-verify
    pub fn open(
        me: PublicKey,
        record: &AccountRecord,
        epoch: StoreEpoch,
    ) -> Result<Self, OpenError> {
        let mut account = Self::new(me, PublicKey::from_bytes(&record.friend)?, epoch);
        account.synced_at = record.synced_at;
        account.count(record.delivered_bytes, record.disputed_bytes);
        for (kept, direction) in [
            (&record.given, Direction::Given),
            (&record.received, Direction::Received),
        ] {
            if let Some(kept) = kept {
                let signed = kept.verify()?;
                if account.direction(signed.iou()) != Some(direction) {
                    return Err(OpenError::NotOurs);
                }
                *account.slot(direction) = Some(signed);
            }
        }
        Ok(account)
    }

    /// What the store has to keep. It holds an IOU that is being persisted too, so that no record says less than one before.
    #[must_use]
    //= spec/iou.md#record-monotone
    pub fn record(&self) -> AccountRecord {
        let total = |signed: &&SignedIou| signed.iou().total_bytes();
        let received = self
            .received
            .iter()
            .chain(&self.unpersisted)
            .max_by_key(total);
        AccountRecord {
            friend: *self.friend.as_bytes(),
            given: self.given.as_ref().map(IouRecord::from),
            received: received.map(IouRecord::from),
            synced_at: self.synced_at,
            delivered_bytes: self.delivered_bytes,
            disputed_bytes: self.disputed_bytes,
        }
    }

    /// A session with the friend begins: whatever was synced before, this one starts with a sync.
    //= spec/iou.md#sync-first
    pub fn begin_session(&mut self) {
        self.session_synced = false;
    }

    /// What we show in the sync, newest of each direction; only what is durable or came from the friend.
    //= spec/iou.md#sync-both
    pub fn shown(&self) -> impl Iterator<Item = &SignedIou> {
        self.given.iter().chain(&self.received)
    }

    /// Takes what the friend showed in the sync. From here to the session's end IOUs may be signed.
    ///
    /// # Errors
    /// [`NotOurs`] when one is between other parties; nothing has changed then.
    //= spec/iou.md#sync-adopt
    //= spec/iou.md#contradiction
    pub fn sync(&mut self, shown: &[SignedIou]) -> Result<SyncReport, NotOurs> {
        let mut totals = [0; 2];
        for signed in shown {
            let direction = self.direction(signed.iou()).ok_or(NotOurs)?;
            let total = &mut totals[direction as usize];
            *total = signed.iou().total_bytes().max(*total);
        }
        let (held, shown_bytes) = (self.given_bytes(), totals[Direction::Given as usize]);
        let contradiction = (shown_bytes < held).then_some(Contradiction {
            held_bytes: held,
            shown_bytes,
        });
        let (mut adopted_bytes, mut news_bytes) = (0_u64, 0_u64);
        for signed in shown {
            match self.join(signed) {
                Some((Direction::Received, by)) => adopted_bytes = adopted_bytes.saturating_add(by),
                Some((Direction::Given, by)) => news_bytes = news_bytes.saturating_add(by),
                None => {}
            }
        }
        self.session_synced = true;
        self.synced_at = Some(self.epoch.number);
        Ok(SyncReport {
            adopted_bytes,
            news_bytes,
            contradiction,
            record: self.record(),
        })
    }

    /// Takes an IOU that the friend sent.
    //= spec/iou.md#join
    //= spec/iou.md#not-ours
    pub fn receive(&mut self, signed: &SignedIou) -> Receipt {
        let Some(direction) = self.direction(signed.iou()) else {
            return Receipt::NotOurs;
        };
        let (held_bytes, shown_bytes) = (self.total(direction), signed.iou().total_bytes());
        match self.join(signed) {
            Some((_, by_bytes)) => Receipt::Newer {
                direction,
                by_bytes,
                record: self.record(),
            },
            None if shown_bytes == held_bytes => Receipt::Same,
            None => Receipt::Stale {
                direction,
                held_bytes,
                shown_bytes,
            },
        }
    }

    /// Signs that we received `total_bytes` of help in all. The record has to be durable before [`Account::persisted`] lets
    /// the IOU out. If it cannot be written, nothing more is signed until the store is opened anew.
    ///
    /// # Errors
    /// [`SignRefusal`]
    //= spec/iou.md#sign-when
    //= spec/iou.md#sign-rising
    pub fn prepare(
        &mut self,
        me: &Identity,
        total_bytes: u64,
    ) -> Result<(AccountRecord, Unpersisted), SignRefusal> {
        // A sync makes any account synced, so this also keeps a restored one from signing.
        if !self.session_synced {
            return Err(SignRefusal::NotSynced);
        }
        if self.unpersisted.is_some() {
            return Err(SignRefusal::Unpersisted);
        }
        let held_bytes = self.received_bytes();
        if total_bytes <= held_bytes {
            return Err(SignRefusal::NotMore { held_bytes });
        }
        let iou = Iou::new(self.friend, self.me, total_bytes)?;
        let signed = iou.sign(me).map_err(|_| SignRefusal::NotDebtor)?;
        self.unpersisted = Some(signed);
        let token = Unpersisted {
            friend: self.friend,
            total_bytes,
        };
        Ok((self.record(), token))
    }

    /// The record of [`Account::prepare`] is durable: the newest IOU to send.
    ///
    /// # Errors
    /// [`WrongToken`] when it belongs to another account.
    //= spec/iou.md#durable-first
    pub fn persisted(&mut self, token: &Unpersisted) -> Result<SignedIou, WrongToken> {
        let signed = self
            .unpersisted
            .filter(|signed| signed.iou().total_bytes() == token.total_bytes)
            .filter(|_| self.friend == token.friend)
            .ok_or(WrongToken)?;
        self.unpersisted = None;
        self.join(&signed);
        Ok(self.received.unwrap_or(signed))
    }

    /// How sure we are to know our own newest signature.
    #[must_use]
    //= spec/iou.md#states
    pub fn state(&self) -> State {
        match (self.synced_at, self.epoch.broken_at) {
            (Some(synced), broken) if Some(synced) >= broken => State::Synced,
            (None, None) if self.given.is_none() && self.received.is_none() => State::Fresh,
            (Some(_) | None, _) => State::Restored,
        }
    }

    /// Our own key.
    #[must_use]
    pub fn me(&self) -> &PublicKey {
        &self.me
    }

    /// The friend's key.
    #[must_use]
    pub fn friend(&self) -> &PublicKey {
        &self.friend
    }

    /// What the friend signed to owe us, in bytes: help that we gave.
    #[must_use]
    pub fn given_bytes(&self) -> u64 {
        self.total(Direction::Given)
    }

    /// What we signed to owe the friend, in bytes: help that we received.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.total(Direction::Received)
    }

    /// All help that we ever delivered to the friend, signed or not, in bytes.
    #[must_use]
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    /// Of that, what the friend left unsigned in helps that are over, in bytes.
    #[must_use]
    pub fn disputed_bytes(&self) -> u64 {
        self.disputed_bytes
    }

    /// Both counts are of whoever decides about help; they are kept here.
    pub fn count(&mut self, delivered_bytes: u64, disputed_bytes: u64) {
        self.delivered_bytes = delivered_bytes;
        self.disputed_bytes = disputed_bytes;
    }

    fn total(&self, direction: Direction) -> u64 {
        let held = match direction {
            Direction::Given => &self.given,
            Direction::Received => &self.received,
        };
        held.as_ref().map_or(0, |signed| signed.iou().total_bytes())
    }

    fn direction(&self, iou: &Iou) -> Option<Direction> {
        if (iou.creditor(), iou.debtor()) == (&self.me, &self.friend) {
            Some(Direction::Given)
        } else if (iou.creditor(), iou.debtor()) == (&self.friend, &self.me) {
            Some(Direction::Received)
        } else {
            None
        }
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<SignedIou> {
        match direction {
            Direction::Given => &mut self.given,
            Direction::Received => &mut self.received,
        }
    }

    /// Keeps the larger; says by how much the total rose, if it did. A first IOU counts even with a total of 0.
    fn join(&mut self, signed: &SignedIou) -> Option<(Direction, u64)> {
        let direction = self.direction(signed.iou())?;
        let held = self.total(direction);
        let by = signed.iou().total_bytes().checked_sub(held)?;
        let slot = self.slot(direction);
        (by > 0 || slot.is_none()).then(|| {
            *slot = Some(*signed);
            (direction, by)
        })
    }
}
