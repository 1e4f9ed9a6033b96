//! What friends say to each other. Pure: no sockets, files, clocks or randomness.
//!
//! A slave is known to its friends by an Ed25519 [`identity`], handed around as a [`friend_code`]. Two friends recognise
//! each other by what they derive from both keys ([`pair`]), and exchange [`message`]s in a [`session`].
//! What one received from the other it signs as an [`iou`], and both keep it in a [`ledger`].

#![forbid(unsafe_code)]

pub mod friend_code;
mod hint;
pub mod identity;
pub mod iou;
pub mod ledger;
pub mod message;
pub mod pair;
pub mod recognition;
pub mod session;
pub mod succession;
