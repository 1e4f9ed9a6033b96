//! How two slaves find out, in the BEP 10 handshakes that everybody can read, that they are friends.
//!
//! Each side says that it speaks `bs_friends` and shows a list of tags ([`crate::pair`]) in random company. A friend
//! finds its own among them; to everybody else the list is noise, and its length tells a size class.

use bt_wire::bencode::{Dict, Document, Item, Limits, Node};
use bt_wire::ids::InfoHash;

use crate::identity::PublicKey;
use crate::pair::{NONCE_BYTES, PairKey, Role, TAG_BYTES, Tag};

/// How many tags a list may hold: it is filled up with random ones to the next of these.
pub const SIZE_CLASSES: [usize; 3] = [16, 64, 256];
/// Most friends a slave may have: each has its tag in every handshake.
pub const MAX_FRIENDS: usize = 256;
/// The dictionary key of the field in the extended handshake (BEP 10), and the extension's name in `m`.
pub const FIELD: &str = "bs_friends";
/// Most nonces remembered, so that a tag heard on one connection is not answered on another.
pub const MAX_NONCES: usize = 1024;

/// Other keys in the field mean nothing, and cost no more than this.
const FIELD_LIMITS: Limits = Limits {
    depth: 8,
    tokens: 256,
    string: 4096,
    keys: bt_wire::bencode::KeyOrder::Any,
};

/// The value of [`FIELD`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognition {
    nonce: [u8; NONCE_BYTES],
    tags: Vec<[u8; TAG_BYTES]>,
    open: bool,
}

/// One friend, as far as recognising it goes.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its identity.
    pub key: PublicKey,
    /// The key we share with it.
    pub pair: PairKey,
}

/// More friends than [`MAX_FRIENDS`], or too few random bytes to hide them in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecognitionError {
    /// There is no class for so many.
    #[error("{0} friends, and at most {MAX_FRIENDS} can be kept; remove some")]
    TooManyFriends(usize),
    /// [`padding_bytes`] says how many are needed.
    #[error("not enough random bytes for the list of tags")]
    TooLittlePadding,
}

/// How many random bytes [`Recognition::new`] needs for so many friends; 0 when they are too many.
#[must_use]
pub fn padding_bytes(friends: usize) -> usize {
    class(friends).map_or(0, |class| (class - friends) * TAG_BYTES)
}

fn class(friends: usize) -> Option<usize> {
    SIZE_CLASSES.into_iter().find(|class| friends <= *class)
}

impl Recognition {
    /// What the side in `role` shows to a connection for `infohash`. `nonce` and `padding` are fresh random bytes.
    ///
    /// # Errors
    /// [`RecognitionError`]
    //= spec/friends.md#field-size
    //= spec/friends.md#field-tags
    //= spec/friends.md#field-fresh
    pub fn new(
        friends: &[Known],
        infohash: &InfoHash,
        role: Role,
        nonce: [u8; NONCE_BYTES],
        padding: &[u8],
        open: bool,
    ) -> Result<Self, RecognitionError> {
        let count = friends.len();
        let class = class(count).ok_or(RecognitionError::TooManyFriends(count))?;
        let (random, _) = padding.as_chunks::<TAG_BYTES>();
        let random = random
            .get(..class - count)
            .ok_or(RecognitionError::TooLittlePadding)?;
        let ours = friends
            .iter()
            .map(|friend| friend.pair.tag(&nonce, infohash, role).0);
        let mut tags: Vec<[u8; TAG_BYTES]> = ours.chain(random.iter().copied()).collect();
        // Sorted, the places of the tags say nothing.
        tags.sort_unstable();
        Ok(Self { nonce, tags, open })
    }

    /// Reads the field of an extended handshake. `None` when it is not there or not as it has to be: then the sender
    /// is a plain peer to us.
    #[must_use]
    //= spec/friends.md#field-bad
    pub fn read(handshake: Dict<'_>) -> Option<Self> {
        Self::read_field(handshake.get(FIELD).and_then(Node::as_dict)?)
    }

    /// Reads the field's value from its bytes, as [`Recognition::read`] does.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let document = Document::parse(value, &FIELD_LIMITS).ok()?;
        Self::read_field(document.root().as_dict()?)
    }

    fn read_field(field: Dict<'_>) -> Option<Self> {
        let nonce = field.bytes("n")?.try_into().ok()?;
        let (tags, rest) = field.bytes("t")?.as_chunks::<TAG_BYTES>();
        if !rest.is_empty() || !SIZE_CLASSES.contains(&tags.len()) {
            return None;
        }
        Some(Self {
            nonce,
            tags: tags.to_vec(),
            open: field.int("o") == Some(1),
        })
    }

    /// The field's value: `n` the nonce, `t` the tags one after the other, `o` 1 in open mode.
    #[must_use]
    pub fn item(&self) -> Item {
        let mut entries = vec![
            ("n", Item::bytes(self.nonce)),
            ("t", Item::bytes(self.tags.concat())),
        ];
        if self.open {
            entries.push(("o", Item::Int(1)));
        }
        Item::dict(entries)
    }

    /// The nonce, for [`Nonces`].
    #[must_use]
    pub fn nonce(&self) -> &[u8; NONCE_BYTES] {
        &self.nonce
    }

    /// Whether the sender meets acquaintances.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Which of `friends` sent this, when `role` is the sender's. The work depends on the two counts alone: every friend
    /// is looked for among all tags, found or not.
    #[must_use]
    //= spec/friends.md#meet-work
    pub fn friend<'k>(
        &self,
        friends: &'k [Known],
        infohash: &InfoHash,
        role: Role,
    ) -> Option<&'k Known> {
        let tags: Vec<Tag> = self.tags.iter().copied().map(Tag).collect();
        among(friends, |friend| {
            friend.pair.recognises(&tags, &self.nonce, infohash, role)
        })
    }
}

/// Who is `here`. Everybody is looked for, whoever was found before.
fn among(friends: &[Known], mut here: impl FnMut(&Known) -> bool) -> Option<&Known> {
    friends.iter().fold(
        None,
        |found, friend| if here(friend) { Some(friend) } else { found },
    )
}

/// Whom a session is begun with after both extended handshakes.
#[derive(Debug, Clone, Copy)]
pub enum Meeting<'k> {
    /// A friend whose tag was there.
    Friend(&'k Known),
    /// Both sides are in open mode.
    Acquaintance,
    /// Nobody. Not a byte more is said about friends, and frames that come are ignored.
    Nobody,
}

/// What the two handshakes lead to. `role` is the other side's.
//= spec/friends.md#meet-replay
//= spec/friends.md#meet-nobody
pub fn meet<'k>(
    ours: &Recognition,
    theirs: Option<&Recognition>,
    friends: &'k [Known],
    infohash: &InfoHash,
    role: Role,
    heard: &mut Nonces,
) -> Meeting<'k> {
    let Some(theirs) = theirs else {
        return Meeting::Nobody;
    };
    match theirs.friend(friends, infohash, role) {
        // Only friends' nonces are kept, so that nobody else can push them out.
        Some(_) if !heard.is_new(theirs.nonce) => Meeting::Nobody,
        Some(friend) => Meeting::Friend(friend),
        None if ours.open && theirs.open => Meeting::Acquaintance,
        None => Meeting::Nobody,
    }
}

/// The nonces that friends' tags came with.
#[derive(Debug, Clone, Default)]
pub struct Nonces {
    heard: std::collections::VecDeque<[u8; NONCE_BYTES]>,
    repeated: u64,
}

impl Nonces {
    /// Whether this nonce comes for the first time among the last [`MAX_NONCES`]; from now on it is known.
    fn is_new(&mut self, nonce: [u8; NONCE_BYTES]) -> bool {
        if self.heard.contains(&nonce) {
            self.repeated = self.repeated.saturating_add(1);
            return false;
        }
        if self.heard.len() == MAX_NONCES {
            self.heard.pop_front();
        }
        self.heard.push_back(nonce);
        true
    }

    /// How often a friend's tag came again with a nonce that was used before: somebody plays back what it heard.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests;
