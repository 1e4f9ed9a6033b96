//! What friends say to each other. Pure: no sockets, files, clocks or randomness.
//!
//! A slave is known to its friends by an Ed25519 [`identity`], handed around as a [`friend_code`].

#![forbid(unsafe_code)]

pub mod friend_code;
mod hint;
pub mod identity;
