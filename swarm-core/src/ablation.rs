//! Policies switched off, to show what each one is worth.
//!
//! A policy is not told that it is off: it sees facts on which it has nothing to decide (no debt, no end to the line, all
//! pieces of one worth). So there is one way through the brain, with the policy and without it.

use crate::params::Ablation;
use crate::policy::choke::{ChokeFacts, RemindFacts};
use crate::policy::evict::EvictFacts;
use crate::policy::gate::GateFacts;
use crate::policy::interest::InterestFacts;
use crate::policy::late::LateFacts;
use crate::policy::need::{RankFacts, StayFacts};
use crate::policy::never_harm::HarmFacts;
use crate::policy::piece_yield::{PlanFacts, YieldFacts};
use crate::policy::stop_loss::StopLossFacts;
use core::time::Duration;

/// What a policy that can be switched off judges by.
pub(crate) trait Facts: Sized {
    /// Which policy.
    const POLICY: Ablation;

    /// Facts on which it has nothing to decide.
    fn dull(self) -> Self;
}

impl Facts for GateFacts {
    const POLICY: Ablation = Ablation::Gate;

    fn dull(self) -> Self {
        Self {
            capacity: f64::MAX,
            held_back: false,
            ..self
        }
    }
}

impl Facts for StopLossFacts {
    const POLICY: Ablation = Ablation::StopLoss;

    fn dull(self) -> Self {
        Self {
            taken: 0,
            in_flight: 0,
            ..self
        }
    }
}

impl Facts for PlanFacts {
    const POLICY: Ablation = Ablation::Yield;

    fn dull(self) -> Self {
        Self {
            piece: YieldFacts {
                lack: self.piece.lack.min(1),
                seeds: 0,
                rivals: 0.0,
                holders: 0,
            },
            downloaders: 1,
            scarce: false,
            wait: 0.0,
            ..self
        }
    }
}

impl Facts for EvictFacts {
    const POLICY: Ablation = Ablation::Evict;

    fn dull(self) -> Self {
        Self {
            lack: 0,
            stale: 0,
            ..self
        }
    }
}

impl Facts for RemindFacts {
    const POLICY: Ablation = Ablation::Remind;

    fn dull(self) -> Self {
        Self {
            quiet: Duration::ZERO,
            ..self
        }
    }
}

impl Facts for ChokeFacts {
    const POLICY: Ablation = Ablation::Choke;

    fn dull(self) -> Self {
        Self {
            feeds: 0.0,
            paid: None,
            wants: 0,
            waited: Duration::ZERO,
            ..self
        }
    }
}

impl Facts for InterestFacts {
    const POLICY: Ablation = Ablation::Interest;

    fn dull(self) -> Self {
        Self {
            unuseful_for: Duration::MAX,
            said: Duration::ZERO,
            ..self
        }
    }
}

impl Facts for LateFacts {
    const POLICY: Ablation = Ablation::Late;

    fn dull(self) -> Self {
        Self { left: 0, ..self }
    }
}

impl Facts for HarmFacts {
    const POLICY: Ablation = Ablation::NeverHarm;

    fn dull(self) -> Self {
        Self {
            taken: 0,
            in_flight: 0,
            ..self
        }
    }
}

impl Facts for RankFacts {
    const POLICY: Ablation = Ablation::Need;

    fn dull(self) -> Self {
        Self {
            need: 1.0 / (f64::from(self.place) + 1.0),
            ..self
        }
    }
}

impl Facts for StayFacts {
    const POLICY: Ablation = Ablation::Leave;

    fn dull(self) -> Self {
        Self {
            joined_for: Duration::ZERO,
            ..self
        }
    }
}
