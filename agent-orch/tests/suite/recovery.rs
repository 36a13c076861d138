//! Recovery on a real stack: what comes after the first choice failed, and what is undone.

#![expect(clippy::unwrap_used, reason = "tests")]

mod ladder;
mod saga;
mod undo;
