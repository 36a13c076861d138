#![doc = include_str!("../README.md")]

mod as_of;
pub mod backend;
#[cfg(feature = "candle-embedder")]
mod candle_embedder;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
pub mod curate;
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
#[cfg(feature = "static-embedder")]
mod static_embedder;
mod store;
mod terms;
#[cfg(feature = "conformance")]
pub mod timelines;
mod validity;
mod when;
#[cfg(any(feature = "static-embedder", feature = "candle-embedder"))]
mod wordpiece;

pub use as_of::AsOf;
#[cfg(feature = "candle-embedder")]
pub use candle_embedder::CandleEmbedder;
pub use context::{BytesPerToken, Context, ContextBuilder, CountTokens, Item, LeftOut, Why};
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
#[cfg(feature = "static-embedder")]
pub use static_embedder::StaticEmbedder;
pub use store::{MemoryStore, MemoryStoreExt};
