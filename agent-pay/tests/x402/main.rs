//! Payments by x402: the wire, its hostile bytes, both sides of a sale, and real peers.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod buying;
mod chain;
mod desk;
mod example;
mod hostile;
mod house;
mod kill;
mod late;
mod messages;
#[path = "../common/peer.rs"]
mod peer;
mod peers;
mod purging;
mod refusing;
mod selling;
mod settling;
mod shared;
mod stack;
#[path = "../common/stubborn.rs"]
mod stubborn;
mod terms;
mod wire;
