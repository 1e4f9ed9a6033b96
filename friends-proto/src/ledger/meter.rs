//! Help given and not signed for yet: tit for tat in the moment.

use std::collections::BTreeMap;

/// Which help; the session numbers them.
pub type HelpId = u64;

/// The window holds at least this much of the rate, in seconds.
const WINDOW_SECONDS: u64 = 2;

/// How much help may be unsigned, in bytes: `configured_bytes`, or two seconds of the rate if that is more.
#[must_use]
//= spec/iou.md#window
pub fn window_bytes(configured_bytes: u64, rate_bps: u64) -> u64 {
    configured_bytes.max(rate_bps.saturating_mul(WINDOW_SECONDS))
}

/// A creditor's count of what it delivered to one friend and what the friend signed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meter {
    /// Unsigned bytes of each running help.
    unsigned: BTreeMap<HelpId, u64>,
    /// Signed before we counted it as delivered.
    ahead: u64,
    delivered: u64,
    disputed: u64,
}

impl Meter {
    pub(super) fn stored(delivered: u64, disputed: u64) -> Self {
        Self {
            delivered,
            disputed,
            ..Self::default()
        }
    }

    /// Counts `bytes` delivered in `help`, which begins with its first.
    pub fn deliver(&mut self, help: HelpId, bytes: u64) {
        self.delivered = self.delivered.saturating_add(bytes);
        let paid = self.ahead.min(bytes);
        self.ahead -= paid;
        let unsigned = self.unsigned.entry(help).or_default();
        *unsigned = unsigned.saturating_add(bytes - paid);
    }

    /// What may still be delivered in `help` before the friend has to sign, in bytes; 0 means pause.
    #[must_use]
    //= spec/iou.md#window-pause
    pub fn room_bytes(&self, help: HelpId, window_bytes: u64) -> u64 {
        window_bytes.saturating_sub(self.unsigned.get(&help).copied().unwrap_or(0))
    }

    /// The friend's signed total rose by `bytes`. They pay for `help` first, then for the other running helps, oldest
    /// first, then for what is disputed.
    //= spec/iou.md#late-payment
    pub fn sign(&mut self, help: Option<HelpId>, bytes: u64) {
        let mut left = bytes;
        let mut pay = |debt: &mut u64| {
            let paid = left.min(*debt);
            *debt -= paid;
            left -= paid;
        };
        if let Some(unsigned) = help.and_then(|help| self.unsigned.get_mut(&help)) {
            pay(unsigned);
        }
        self.unsigned.values_mut().for_each(&mut pay);
        pay(&mut self.disputed);
        self.ahead = self.ahead.saturating_add(left);
    }

    /// `help` is over: what nobody signed for is disputed from now on. Returns that.
    //= spec/iou.md#disputed
    pub fn end(&mut self, help: HelpId) -> u64 {
        let unsigned = self.unsigned.remove(&help).unwrap_or(0);
        self.disputed = self.disputed.saturating_add(unsigned);
        unsigned
    }

    /// Whether the friend is refused help: it left unsigned over a quarter of all that was delivered, and over a window.
    #[must_use]
    //= spec/iou.md#refusal
    pub fn refused(&self, window_bytes: u64) -> bool {
        self.disputed > self.delivered / 4 && self.disputed > window_bytes
    }

    /// Unsigned bytes of all running helps.
    #[must_use]
    pub fn unsigned_bytes(&self) -> u64 {
        self.unsigned
            .values()
            .fold(0, |sum, unsigned| sum.saturating_add(*unsigned))
    }

    /// All that was ever delivered.
    #[must_use]
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered
    }

    /// What helps that are over left unsigned.
    #[must_use]
    pub fn disputed_bytes(&self) -> u64 {
        self.disputed
    }
}
