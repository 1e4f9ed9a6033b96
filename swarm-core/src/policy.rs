//! Every rule of judgement, one file each: facts in, decision out. Nothing here touches a peer or keeps time.

pub mod choke;
pub mod commitment;
pub mod dial;
pub mod evict;
pub mod forward;
pub mod gate;
pub mod interest;
pub mod need;
pub mod pick;
pub mod piece_yield;
pub mod split;
pub mod stop_loss;
