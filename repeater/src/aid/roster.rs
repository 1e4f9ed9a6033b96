//! The list of friends, as recognising them needs it.

use friends_proto::pair::{PairError, PairKey};
use friends_proto::recognition::{Known, MAX_FRIENDS};

use crate::friends::Friends;

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

/// Every friend with the key that the two of us share.
pub(super) fn known(friends: &Friends) -> Result<Vec<Known>, RosterError> {
    let list = friends.list();
    if list.len() > MAX_FRIENDS {
        return Err(RosterError::TooMany(list.len()));
    }
    let me = friends.identity();
    let known = list.into_iter().map(|(key, friend)| {
        let pair = PairKey::derive(me, &key).map_err(|why| RosterError::Pair {
            name: friend.name,
            why,
        })?;
        Ok(Known { key, pair })
    });
    known.collect()
}
