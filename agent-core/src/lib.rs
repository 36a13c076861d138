#![doc = include_str!("../README.md")]

mod amount;
mod effect;
mod embed;
mod entropy;
mod env;
mod error;
mod event;
pub mod fault;
mod gate;
pub mod id;
pub mod model;
mod scope;
mod secret;
#[cfg(feature = "sqlite")]
pub mod store;
mod time;
mod usage;

pub use amount::{Amount, Asset};
pub use effect::{Digest, Effect, EffectClass, canonical_json};
pub use embed::{Embedder, TokenVectors};
pub use entropy::{Entropy, EntropyExt, OsEntropy, SeededEntropy};
pub use env::Env;
pub use error::{BoxError, Classify, Error, ErrorKind, Failure, Result, Retry};
pub use event::{Event, EventSink};
pub use gate::{Gate, Gates, Verdict};
pub use id::{AgentId, AttemptId, CallId, RunId, TaskId};
pub use model::Model;
pub use scope::{Fence, IdempotencyKey, Principal, Scope};
pub use secret::{ExposeSecret, Secret, SecretBytes};
#[cfg(feature = "test-util")]
pub use time::ManualClock;
pub use time::{Clock, ClockExt, SystemClock, Timestamp};
pub use tokio_util::sync::CancellationToken;
pub use usage::{Meter, Unit, Usage, UsageRecord};
