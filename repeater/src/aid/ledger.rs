//! What is signed between one friend and us, as the desk handles it. The ledger itself is [`Friends`].

use std::sync::Arc;

use friends_proto::identity::PublicKey;
use friends_proto::iou::{IouError, SignedIou, UnverifiedIou};
use friends_proto::ledger::{AccountRecord, Direction, Receipt, SignRefusal};
use friends_proto::message::{IouBytes, Sync};

use super::count_defence;
use crate::friends::{Carried, Friends, SignError};
use crate::net::unix_now;
use crate::store::StoreError;

/// One friend's account.
#[derive(Debug, Clone)]
pub(super) struct Books {
    friends: Arc<Friends>,
    key: PublicKey,
}

/// The session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unbearable {
    /// Forged, malformed, or between others.
    #[error("it showed an IOU that is not sound: {0}")]
    Iou(&'static str),
    /// Ours to mend.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger's own rules were broken: by us.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The writer's thread ended.
    #[error("the ledger's writer ended: {0}")]
    Writer(#[from] tokio::task::JoinError),
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
    pub(super) fn new(friends: &Arc<Friends>, key: PublicKey) -> Self {
        Self {
            friends: Arc::clone(friends),
            key,
        }
    }

    /// Signed for us, and by us, bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        let totals = self
            .friends
            .with_account(&self.key, |one| (one.given_bytes(), one.received_bytes()));
        let (given, received) = totals.unwrap_or_default();
        let before = self.before();
        (
            given.saturating_add(before.given),
            received.saturating_add(before.received),
        )
    }

    /// What was signed with former keys: the brain counts it as one.
    fn before(&self) -> Carried {
        self.friends.carried(&self.key)
    }

    /// Delivered to it, and disputed of that, bytes.
    pub(super) fn kept(&self) -> (u64, u64) {
        let kept = self.friends.with_account(&self.key, |one| {
            (one.delivered_bytes(), one.disputed_bytes())
        });
        let (delivered, disputed) = kept.unwrap_or_default();
        let before = self.before();
        (
            delivered.saturating_add(before.delivered),
            disputed.saturating_add(before.disputed),
        )
    }

    /// Does a job of the ledger that may block on the disk.
    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Friends, &PublicKey) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let Self { friends, key } = self.clone();
        tokio::task::spawn_blocking(move || job(&friends, &key)).await
    }

    /// An acquaintance costs us no disk before we gave it something, or owe it: fresh keys are free.
    async fn persist(&self, record: AccountRecord) -> Result<(), Unbearable> {
        let counts = record.received.is_some() || record.delivered_bytes > 0;
        if !counts && !self.friends.is_listed(&self.key) {
            return Ok(());
        }
        let persisted = self.work(move |friends, _| friends.persist(record, unix_now()));
        Ok(persisted.await??)
    }

    /// A session stands, or is over.
    pub(super) async fn seen(&self, online: bool) -> Result<(), Unbearable> {
        let seen = self.work(move |friends, key| friends.seen(key, online, unix_now()));
        Ok(seen.await??)
    }

    /// Keeps what the brain counted.
    pub(super) async fn keep(&self, delivered: u64, disputed: u64) -> Result<(), Unbearable> {
        let before = self.before();
        let delivered = delivered.saturating_sub(before.delivered);
        let disputed = disputed.saturating_sub(before.disputed);
        let record = self.friends.with_account(&self.key, |account| {
            account.count(delivered, disputed);
            account.record()
        });
        match record {
            Some(record) => self.persist(record).await,
            None => Ok(()),
        }
    }

    /// A session begins: what to show.
    //= spec/friends.md#sync-send
    pub(super) fn begin_session(&self) -> Sync {
        let shown = self.friends.with_account(&self.key, |account| {
            account.begin_session();
            account.shown().copied().collect::<Vec<_>>()
        });
        let mut sync = Sync::default();
        for signed in shown.unwrap_or_default() {
            let bytes = IouBytes::new(signed.encode()).ok();
            if *signed.iou().debtor() == self.key {
                sync.credit = bytes;
            } else {
                sync.debt = bytes;
            }
        }
        sync
    }

    /// What the friend showed is adopted, durably, before anything is signed.
    //= spec/iou.md#sync-adopt
    //= spec/friends.md#sync-bad
    pub(super) async fn sync(&self, sync: &Sync) -> Result<(), Unbearable> {
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
        let synced = self
            .friends
            .with_account(&self.key, |account| account.sync(&shown));
        let report = synced
            .ok_or(SignError::NoAccount)?
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
        self.persist(report.record).await
    }

    //= spec/friends.md#credit-bilateral
    fn is_ours(&self, signed: &SignedIou) -> bool {
        let (creditor, debtor) = (signed.iou().creditor(), signed.iou().debtor());
        let me = self.friends.identity().public_key();
        (creditor, debtor) == (&me, &self.key) || (creditor, debtor) == (&self.key, &me)
    }

    /// An IOU came: the total that it shows of what the friend owes, once it is durable; none when it changes nothing.
    //= spec/iou.md#join
    pub(super) async fn receive(&self, iou: &IouBytes) -> Result<Option<u64>, Unbearable> {
        let Some(signed) = verify(iou)? else {
            return Ok(None);
        };
        let receipt = self
            .friends
            .with_account(&self.key, |account| account.receive(&signed));
        match receipt.ok_or(SignError::NoAccount)? {
            Receipt::Newer {
                direction, record, ..
            } => {
                self.persist(record).await?;
                let given = direction == Direction::Given;
                let total = signed.iou().total_bytes();
                Ok(given.then(|| total.saturating_add(self.before().given)))
            }
            Receipt::Same => Ok(None),
            // The brain counts it.
            Receipt::Stale {
                direction: Direction::Given,
                shown_bytes,
                ..
            } => Ok(Some(shown_bytes.saturating_add(self.before().given))),
            Receipt::Stale { .. } => Ok(None),
            Receipt::NotOurs => {
                count_defence("OthersIou");
                Err(Unbearable::Iou("between other parties"))
            }
        }
    }

    /// Signs that we received `total` bytes in all; what comes out is durable.
    //= spec/iou.md#durable-first
    pub(super) async fn sign(&self, total: u64) -> Result<Signing, Unbearable> {
        let before = self.before().received;
        let total = total.saturating_sub(before);
        let signed = self.work(move |friends, key| friends.sign(key, total, unix_now()));
        match signed.await? {
            Ok(signed) => IouBytes::new(signed.encode())
                .map(Signing::Signed)
                .map_err(|_| Unbearable::Iou("too long")),
            Err(SignError::Refused(SignRefusal::NotMore { held_bytes })) => {
                Ok(Signing::Before(held_bytes.saturating_add(before)))
            }
            Err(SignError::Refused(why)) => Ok(Signing::Refused(why)),
            Err(why @ (SignError::NoAccount | SignError::Store(_) | SignError::Token(_))) => {
                Err(why.into())
            }
        }
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
