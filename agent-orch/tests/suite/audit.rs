//! Whatever is done to the records behind the journal's back is found and named.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests")]

mod chain;
mod erase;
mod export;
mod roots;
mod tamper;
