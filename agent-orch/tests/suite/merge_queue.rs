//! The merge queue on real repositories.

#![cfg(feature = "git")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod checks;
mod landing;
mod memory;
mod rig;
