//! The Agentic Commerce Protocol, one module a subject.

mod acp_shop;
mod agent;
#[expect(dead_code, reason = "these tests use a part of it")]
#[path = "../common/mod.rs"]
mod common;
mod delegate;
mod kill;
mod late;
mod orders;
#[path = "../common/peer.rs"]
mod peer;
mod prism;
mod purge;
mod seller;
#[path = "../common/stubborn.rs"]
mod stubborn;
mod turns;
