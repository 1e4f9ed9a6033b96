//! What is kept about one friend: its account, and how the store keeps it.

use std::sync::Arc;

use friends_proto::identity::{Identity, PublicKey};
use friends_proto::iou::{IouError, SignedIou, UnverifiedIou};
use friends_proto::ledger::{
    Account, AccountRecord, Direction, HelpId, Receipt, SignRefusal, StoreEpoch,
};
use friends_proto::message::{IouBytes, Sync};

use super::count_defence;
use super::store::{FriendStore, StoreFailed};

/// One friend's account in the store.
#[derive(Debug)]
pub(super) struct Books {
    account: Account,
    /// All that was delivered to it, and what of it is disputed, bytes: by the brain's count.
    kept: (u64, u64),
}

/// What the friend showed cannot be borne: its session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unbearable {
    /// Forged, malformed, or between others.
    #[error("it showed an IOU that is not sound: {0}")]
    Iou(&'static str),
    /// Ours to mend.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// What came of an order to sign.
#[derive(Debug)]
pub(super) enum Signing {
    /// Durable: send it.
    Signed(IouBytes),
    /// We have signed for so much already.
    Before(u64),
    /// Not now; why.
    Refused(SignRefusal),
}

impl Books {
    /// The account as the store has it. What cannot be believed is left out, and the account opens as restored.
    pub(super) fn open(
        me: PublicKey,
        friend: PublicKey,
        record: Option<&AccountRecord>,
        epoch: StoreEpoch,
    ) -> Self {
        let kept = record.map_or((0, 0), |r| (r.delivered_bytes, r.disputed_bytes));
        let opened = record.map(|record| Account::open(me, record, epoch));
        let account = match opened {
            Some(Ok(account)) => account,
            None => Account::new(me, friend, epoch),
            Some(Err(why)) => {
                tracing::error!(
                    "a friend's account in the store cannot be believed: {why}; it is taken from the friend at the next \
                     meeting, and nothing is signed before"
                );
                count_defence("BadRecord");
                let broken = StoreEpoch {
                    broken_at: Some(epoch.number),
                    ..epoch
                };
                Account::new(me, friend, broken)
            }
        };
        Self { account, kept }
    }

    /// Signed for us, and by us, bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.account.given_bytes(), self.account.received_bytes())
    }

    pub(super) fn kept(&self) -> (u64, u64) {
        self.kept
    }

    async fn persist(
        &self,
        store: &Arc<dyn FriendStore>,
        mut record: AccountRecord,
    ) -> Result<(), StoreFailed> {
        (record.delivered_bytes, record.disputed_bytes) = self.kept;
        let store = Arc::clone(store);
        tokio::task::spawn_blocking(move || store.persist(&record))
            .await
            .map_err(|e| StoreFailed(format!("the ledger's writer ended: {e}")))?
    }

    /// Keeps what the brain counted.
    pub(super) async fn keep(
        &mut self,
        store: &Arc<dyn FriendStore>,
        kept: (u64, u64),
    ) -> Result<(), StoreFailed> {
        self.kept = kept;
        self.persist(store, self.account.record()).await
    }

    /// A session begins: what to show.
    //= spec/friends.md#sync-send
    pub(super) fn begin_session(&mut self) -> Sync {
        self.account.begin_session();
        let mut sync = Sync::default();
        for signed in self.account.shown() {
            let bytes = IouBytes::new(signed.encode()).ok();
            if signed.iou().debtor() == self.account.friend() {
                sync.credit = bytes;
            } else {
                sync.debt = bytes;
            }
        }
        sync
    }

    /// What the friend showed is adopted, durably, before anything is signed.
    //= spec/friends.md#sync-adopt
    //= spec/friends.md#sync-bad
    pub(super) async fn sync(
        &mut self,
        store: &Arc<dyn FriendStore>,
        sync: &Sync,
    ) -> Result<(), Unbearable> {
        let mut shown = Vec::new();
        for bytes in [&sync.credit, &sync.debt].into_iter().flatten() {
            if let Some(signed) = verify(bytes)? {
                if self.is_ours(&signed) {
                    shown.push(signed);
                } else {
                    count_defence("OthersIou");
                }
            }
        }
        let report = self
            .account
            .sync(&shown)
            .map_err(|_| Unbearable::Iou("between other parties"))?;
        if let Some(contradiction) = report.contradiction {
            tracing::warn!(
                held = contradiction.held_bytes,
                shown = contradiction.shown_bytes,
                "a friend showed less of its debt than it has signed; what it signed counts"
            );
            count_defence("Contradiction");
        }
        if report.adopted_bytes > 0 {
            tracing::warn!(
                bytes = report.adopted_bytes,
                "our ledger was behind what we have signed; the friend's copy is taken over"
            );
            count_defence("Adopted");
        }
        Ok(self.persist(store, report.record).await?)
    }

    fn is_ours(&self, signed: &SignedIou) -> bool {
        let (creditor, debtor) = (signed.iou().creditor(), signed.iou().debtor());
        let friend = self.account.friend();
        let me = self.account.me();
        (creditor, debtor) == (me, friend) || (creditor, debtor) == (friend, me)
    }

    /// An IOU came: the total that it shows of what the friend owes, once it is durable; none when it changes nothing.
    //= spec/iou.md#join
    pub(super) async fn receive(
        &mut self,
        store: &Arc<dyn FriendStore>,
        iou: &IouBytes,
        help: Option<HelpId>,
    ) -> Result<Option<u64>, Unbearable> {
        let Some(signed) = verify(iou)? else {
            return Ok(None);
        };
        match self.account.receive(&signed, help) {
            Receipt::Newer {
                direction, record, ..
            } => {
                self.persist(store, record).await?;
                let given = direction == Direction::Given;
                Ok(given.then(|| signed.iou().total_bytes()))
            }
            Receipt::Same => Ok(None),
            // The brain counts it.
            Receipt::Stale {
                direction: Direction::Given,
                shown_bytes,
                ..
            } => Ok(Some(shown_bytes)),
            Receipt::Stale { .. } => Ok(None),
            Receipt::NotOurs => {
                count_defence("OthersIou");
                Err(Unbearable::Iou("between other parties"))
            }
        }
    }

    /// Signs that we received `total` bytes in all, and makes it durable.
    //= spec/friends.md#iou-durable
    pub(super) async fn sign(
        &mut self,
        store: &Arc<dyn FriendStore>,
        me: &Identity,
        total: u64,
    ) -> Result<Signing, StoreFailed> {
        let (record, token) = match self.account.prepare(me, total) {
            Ok(prepared) => prepared,
            Err(SignRefusal::NotMore { held_bytes }) => return Ok(Signing::Before(held_bytes)),
            Err(why) => return Ok(Signing::Refused(why)),
        };
        self.persist(store, record).await?;
        let bytes = self
            .account
            .persisted(&token)
            .ok()
            .and_then(|signed| IouBytes::new(signed.encode()).ok());
        Ok(bytes.map_or(Signing::Refused(SignRefusal::Unpersisted), Signing::Signed))
    }
}

/// One of another version is passed over.
fn verify(bytes: &IouBytes) -> Result<Option<SignedIou>, Unbearable> {
    let decoded = UnverifiedIou::decode(bytes.as_bytes());
    match decoded.and_then(|iou| Ok(iou.verify()?)) {
        Ok(signed) => Ok(Some(signed)),
        Err(IouError::Version(_)) => {
            count_defence("IouVersion");
            Ok(None)
        }
        Err(IouError::Forged(_)) => {
            count_defence("ForgedIou");
            Err(Unbearable::Iou("forged"))
        }
        Err(IouError::Malformed | IouError::Key(_) | IouError::Terms(_)) => {
            count_defence("MalformedIou");
            Err(Unbearable::Iou("malformed"))
        }
    }
}
