//! From the first frame to two proved identities.

use std::sync::Arc;

use snow::{Builder, HandshakeState, TransportState};
use zeroize::Zeroizing;

use super::noise::{Primitives, TAG, public_of};
use super::{BadFrame, End};
use crate::identity::{Identity, PublicKey};
use crate::message::{Hello, MAX_MESSAGE};
use crate::pair::{PairKey, Role};

/// What the prologue begins with: a change of the handshake or the framing changes it.
const PROLOGUE: &[u8] = b"bs_friends/1\0";
/// What the signed statement of a session begins with.
const SIGNED: &[u8] = b"bs_friends session 1\0";
/// Bytes of an X25519 key, and of a handshake hash.
const KEY: usize = 32;

/// Whom the session is with, as the tags in the BEP 10 handshakes told.
#[derive(Debug, Clone)]
pub enum With {
    /// A friend.
    Friend {
        /// The identity it has to prove.
        key: [u8; 32],
        /// The pair's key K.
        pair: PairKey,
    },
    /// Nobody we know; both sides are in open mode.
    Acquaintance,
}

impl With {
    //= spec/friends.md#noise-protocol
    fn pattern(&self) -> &'static str {
        match self {
            Self::Friend { .. } => "Noise_XXpsk0_25519_ChaChaPoly_SHA256",
            Self::Acquaintance => "Noise_XX_25519_ChaChaPoly_SHA256",
        }
    }

    /// Bytes of handshake message 0, 1 or 2. They carry no payload, so there is one length for each.
    //= spec/friends.md#noise-payload
    fn length(&self, kind: u8) -> usize {
        match (kind, self) {
            (0, Self::Friend { .. }) => KEY + TAG,
            (0, Self::Acquaintance) => KEY,
            (1, _) => KEY + KEY + TAG + TAG,
            _ => KEY + TAG + TAG,
        }
    }
}

/// What a session is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Ours.
    pub role: Role,
    /// Whom it is with.
    pub with: With,
    /// The 20 bytes of the BitTorrent handshake (BEP 3).
    pub infohash: [u8; 20],
    /// The peer id of the side that opened the connection.
    pub opener_peer_id: [u8; 20],
    /// The peer id of the other side.
    pub acceptor_peer_id: [u8; 20],
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Secrets drawn for this session alone.
    pub secrets: Secrets,
}

/// The two X25519 secrets of one session: fresh random bytes, never used again.
#[derive(Clone)]
pub struct Secrets {
    /// The Noise static.
    pub fixed: Zeroizing<[u8; 32]>,
    /// The Noise ephemeral.
    pub ephemeral: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// The Noise handshake under way.
pub(super) struct Handshake {
    noise: HandshakeState,
    with: With,
    /// The kind of the frame that comes next from the other side.
    next: u8,
    fixed_public: [u8; KEY],
}

/// A handshake that came to its end: nobody is proved yet, but nobody can listen or change a byte.
pub(super) struct Channel {
    pub(super) noise: TransportState,
    hash: [u8; KEY],
    ours: [u8; KEY],
    theirs: [u8; KEY],
}

/// What a handshake frame led to.
pub(super) struct Step {
    pub(super) answer: Option<Vec<u8>>,
    pub(super) done: bool,
}

impl Handshake {
    /// # Errors
    /// [`End::Setup`] when the library refuses what it is given.
    //= spec/friends.md#noise-prologue
    //= spec/friends.md#noise-fresh
    pub(super) fn new(setup: &Setup) -> Result<Self, End> {
        let mut prologue = PROLOGUE.to_vec();
        prologue.extend_from_slice(&setup.infohash);
        prologue.extend_from_slice(&setup.opener_peer_id);
        prologue.extend_from_slice(&setup.acceptor_peer_id);
        let build = || {
            let primitives = Primitives {
                ephemeral: setup.secrets.ephemeral.clone(),
            };
            let builder =
                Builder::with_resolver(setup.with.pattern().parse()?, Box::new(primitives))
                    .prologue(&prologue)?
                    .local_private_key(setup.secrets.fixed.as_slice())?;
            let builder = match &setup.with {
                With::Friend { pair, .. } => builder.psk(0, pair.as_bytes())?,
                With::Acquaintance => builder,
            };
            match setup.role {
                Role::Opener => builder.build_initiator(),
                Role::Acceptor => builder.build_responder(),
            }
        };
        Ok(Self {
            noise: build().map_err(|_: snow::Error| End::Setup)?,
            with: setup.with.clone(),
            next: setup.role.other().byte(),
            fixed_public: public_of(&setup.secrets.fixed),
        })
    }

    /// The frame of kind `kind`, ours to send.
    pub(super) fn write(&mut self, kind: u8) -> Result<Vec<u8>, End> {
        let length = self.with.length(kind);
        // The library wants room for a tag even where there is none.
        let mut frame = vec![0; 1 + length + TAG];
        frame[0] = kind;
        let written = self.noise.write_message(&[], &mut frame[1..]);
        frame.truncate(1 + length);
        match written {
            Ok(written) if written == length => Ok(frame),
            Ok(_) | Err(_) => Err(End::Setup),
        }
    }

    /// Takes a handshake frame of the other side.
    //= spec/friends.md#frame-kind
    //= spec/friends.md#frame-length
    //= spec/friends.md#frame-decrypt
    pub(super) fn read(&mut self, kind: u8, message: &[u8]) -> Result<Step, End> {
        if kind != self.next {
            return Err(BadFrame::Kind(kind).into());
        }
        if message.len() != self.with.length(kind) {
            return Err(BadFrame::Length(message.len()).into());
        }
        // An empty payload fits an empty buffer; the length above left no room for another.
        self.noise
            .read_message(message, &mut [0; TAG])
            .map_err(|_| BadFrame::Unreadable)?;
        self.next = kind + 2;
        let answer = if kind < 2 {
            // It can only fail for a key of theirs that X25519 refuses.
            Some(self.write(kind + 1).map_err(|_| BadFrame::Unreadable)?)
        } else {
            None
        };
        Ok(Step {
            answer,
            done: kind > 0,
        })
    }

    /// After the last handshake message.
    //= spec/friends.md#hello-own
    pub(super) fn into_channel(self) -> Result<Channel, End> {
        let hash = self.noise.get_handshake_hash().first_chunk().copied();
        let theirs = self.noise.get_remote_static();
        let theirs = theirs.and_then(|key| key.first_chunk().copied());
        let (Some(hash), Some(theirs)) = (hash, theirs) else {
            return Err(End::Setup);
        };
        if theirs == self.fixed_public {
            return Err(End::OwnKey);
        }
        Ok(Channel {
            hash,
            ours: self.fixed_public,
            theirs,
            noise: self.noise.into_transport_mode().map_err(|_| End::Setup)?,
        })
    }
}

impl Channel {
    pub(super) fn hash(&self) -> &[u8; KEY] {
        &self.hash
    }

    /// What `role` signs to prove its identity: this session, its place in it, and the static key it came with.
    //= spec/friends.md#hello-signature
    fn statement(&self, role: Role, fixed: &[u8; KEY]) -> Vec<u8> {
        let mut statement = SIGNED.to_vec();
        statement.push(role.byte());
        statement.extend_from_slice(&self.hash);
        statement.extend_from_slice(fixed);
        statement
    }

    /// Our own hello.
    pub(super) fn hello(
        &self,
        role: Role,
        identity: &Identity,
        versions: [u8; 2],
        chosen: Option<u8>,
    ) -> Hello {
        Hello {
            key: *identity.public_key().as_bytes(),
            signature: identity.sign(&self.statement(role, &self.ours)),
            lowest: versions[0],
            highest: versions[1],
            chosen,
        }
    }

    /// Who sent `hello`, when `role` is the sender's.
    ///
    /// # Errors
    /// Our own key, another key than the friend's, no key, or a signature that is not over this session.
    //= spec/friends.md#hello-check
    //= spec/friends.md#hello-friend
    //= spec/friends.md#hello-own
    pub(super) fn prove(
        &self,
        hello: &Hello,
        role: Role,
        own: &PublicKey,
        with: &With,
    ) -> Result<PublicKey, End> {
        let key = PublicKey::from_bytes(&hello.key).map_err(|_| End::BadKey)?;
        if key == *own {
            return Err(End::OwnKey);
        }
        match with {
            With::Friend { key: friend, .. } if *friend != hello.key => return Err(End::BadKey),
            With::Friend { .. } | With::Acquaintance => {}
        }
        key.verify(&self.statement(role, &self.theirs), &hello.signature)
            .map_err(|_| End::BadSignature)?;
        Ok(key)
    }

    /// A transport frame.
    pub(super) fn seal(&mut self, kind: u8, plaintext: &[u8]) -> Result<Vec<u8>, End> {
        let mut frame = vec![0; 1 + plaintext.len() + TAG];
        frame[0] = kind;
        match self.noise.write_message(plaintext, &mut frame[1..]) {
            Ok(length) if length + 1 == frame.len() => Ok(frame),
            Ok(_) | Err(_) => Err(End::Setup),
        }
    }

    /// The plaintext of a transport message.
    //= spec/friends.md#frame-length
    //= spec/friends.md#frame-decrypt
    pub(super) fn open(&mut self, message: &[u8]) -> Result<Vec<u8>, End> {
        if !(TAG..=MAX_MESSAGE + TAG).contains(&message.len()) {
            return Err(BadFrame::Length(message.len()).into());
        }
        let mut plaintext = vec![0; message.len() - TAG];
        self.noise
            .read_message(message, &mut plaintext)
            .map_err(|_| BadFrame::Unreadable)?;
        Ok(plaintext)
    }
}
