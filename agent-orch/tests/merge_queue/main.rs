//! The merge queue on real repositories.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../merge_common/mod.rs"]
mod merge_common;

mod checks;
mod landing;
mod memory;
mod rig;
