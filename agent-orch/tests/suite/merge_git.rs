//! Opening, cloning, reading and proposing on real repositories.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod draft;
mod open;
mod read;
