//! How the daemon says no: what it was about, why not, and what to do next.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The refusal.
    pub error: Problem,
}

/// One refusal, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The thing it is about.
    pub what: String,
    /// The cause.
    pub why: String,
    /// The next step; may be empty.
    #[serde(default)]
    pub hint: String,
}

impl Problem {
    /// A refusal of `what`, because of `why`; `hint` names the next step.
    pub fn new(what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            hint: hint.into(),
        }
    }
}
