//! The list of friends, as the operator made it.

use friends_proto::friend_code::FriendCode;
use friends_proto::identity::{Identity, PublicKey};
use friends_proto::pair::{PairError, PairKey};
use friends_proto::recognition::{Known, MAX_FRIENDS};

/// One friend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friend {
    /// The operator's name for it.
    pub name: String,
    /// Its key, and where it may be found.
    pub code: FriendCode,
}

/// A list of friends that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// One of them is none.
    #[error("friend {name}: {why}")]
    Pair {
        /// Which.
        name: String,
        /// Why.
        #[source]
        why: PairError,
    },
    /// Their tags do not fit into a handshake.
    #[error("{0} friends, and at most {MAX_FRIENDS} can be kept; remove some")]
    TooMany(usize),
}

/// What recognising them needs.
pub(super) fn known(me: &Identity, friends: &[Friend]) -> Result<Vec<Known>, RosterError> {
    if friends.len() > MAX_FRIENDS {
        return Err(RosterError::TooMany(friends.len()));
    }
    let known = friends.iter().map(|friend| {
        let key: PublicKey = *friend.code.key();
        let pair = PairKey::derive(me, &key).map_err(|why| RosterError::Pair {
            name: friend.name.clone(),
            why,
        })?;
        Ok(Known { key, pair })
    });
    known.collect()
}
