//! Opening, cloning, reading and proposing on real repositories.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../merge_common/mod.rs"]
mod merge_common;

mod draft;
mod open;
mod read;
