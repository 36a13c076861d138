#![doc = include_str!("../README.md")]

mod as_of;
pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
pub mod curate;
#[cfg(feature = "static-embedder")]
mod embedder;
mod error;
pub mod extract;
pub mod foreign;
pub mod forgetting;
mod index;
pub mod layer;
mod memory;
mod metadata;
mod namespace;
#[cfg(feature = "openai-embedder")]
mod openai_embedder;
pub mod portable;
mod prepare;
mod query;
mod recall;
mod relation;
pub mod safety;
mod store;
mod terms;
#[cfg(feature = "conformance")]
pub mod timelines;
mod validity;
mod when;

pub use as_of::AsOf;
pub use context::{BytesPerToken, Context, ContextBuilder, CountTokens, Item, LeftOut, Why};
#[cfg(feature = "static-embedder")]
pub use embedder::StaticEmbedder;
pub use error::{Error, Result};
pub use memory::{
    Added, Change, Draft, Kind, Memory, MemoryId, Provenance, Receipt, Selection, Trust, Verb,
};
pub use metadata::{Metadata, Relabel, Value, label};
pub use namespace::Namespace;
#[cfg(feature = "openai-embedder")]
pub use openai_embedder::{OpenAiConfig, OpenAiEmbedder};
pub use prepare::{Prepared, prepare};
pub use query::{Explanation, Filter, Hit, Listing, Query, Test, Weights};
pub use recall::{Order, Recall, Recalled, Reranker};
pub use relation::{Direction, Node, Path, Relation, RelationVersion, Walk};
pub use store::{MemoryStore, MemoryStoreExt};
