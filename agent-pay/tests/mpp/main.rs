//! The Machine Payments Protocol: the wire, a server behind axum, a client, sessions, and the
//! official implementation for JavaScript on the other side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "tests"
)]

mod buyer;
mod late;
mod market;
mod peer;
mod purging;
mod seller;
mod session;
mod wire;

#[expect(dead_code, reason = "these tests use a part of it")]
#[path = "../common/mod.rs"]
mod common;
