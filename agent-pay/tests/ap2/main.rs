//! Mandates of the Agent Payments Protocol: chains, amounts, constraints, checkouts, what becomes of
//! them in the spend authority, and other implementations on the other side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    reason = "tests"
)]

mod budgets;
mod chains;
mod checkouts;
mod hostile;
mod minting;
mod payments;
mod peer;
#[path = "../common/peer.rs"]
mod program;

#[expect(dead_code, reason = "these tests use a part of it")]
#[path = "../common/mod.rs"]
mod common;
