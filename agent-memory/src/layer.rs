//! What wraps an embedder.

mod cached;

pub use cached::CachedEmbedder;
