//! The extension protocol (BEP 10) and the extensions we speak on it.

mod handshake;
mod lt_donthave;
mod ut_metadata;
mod ut_pex;

pub(crate) use handshake::ip;
pub use handshake::{
    ExtendedHandshake, ExtensionError, ExtensionIds, MAX_FRIENDS_FIELD, MAX_HANDSHAKE,
};
pub use lt_donthave::LtDontHave;
pub use ut_metadata::{
    Added, MAX_METADATA, METADATA_PIECE, MetadataAssembler, MetadataError, MetadataMessage,
    metadata_piece,
};
pub use ut_pex::{MAX_PEX_PEERS, PexError, PexMessage, PexPeer, pex_flags};

/// The id of the extended handshake itself.
pub const HANDSHAKE: u8 = 0;
/// The id under which we receive `ut_pex`.
pub const UT_PEX: u8 = 1;
/// The id under which we receive `ut_metadata`.
pub const UT_METADATA: u8 = 2;
/// The id under which we receive `lt_donthave`.
pub const LT_DONTHAVE: u8 = 7;
/// The id under which we receive friends' frames, where we offer to take any.
pub const BS_FRIENDS: u8 = 9;
