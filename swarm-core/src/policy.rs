//! Every rule of judgement, one file each: facts in, decision out. Nothing here touches a peer or keeps time.

pub mod belief;
pub mod choke;
pub mod commitment;
pub mod delivery;
pub mod dial;
pub mod evict;
pub mod feed_cap;
pub mod forward;
pub mod friend_dial;
pub mod gate;
pub mod help;
pub mod interest;
pub mod late;
pub mod need;
pub mod never_harm;
pub mod pick;
pub mod piece_yield;
pub mod pool;
pub mod quota;
pub mod rendezvous;
pub mod schedule;
pub mod split;
pub mod stop_loss;
pub mod tit_for_tat;
pub mod witness;
