//! BitTorrent's bytes and the messages they mean. Pure: no sockets, files, clocks or randomness.
//!
//! Whatever comes from the network is checked here once; nothing in it can panic us or size an allocation.

#![forbid(unsafe_code)]

pub mod address;
pub mod bencode;
pub mod bitfield;
pub mod extension;
pub mod handshake;
pub mod ids;
pub mod layout;
pub mod magnet;
pub mod message;
pub mod metainfo;
pub mod tracker;
