#![doc = include_str!("../README.md")]

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
mod conversation;
mod error;
mod info;
pub mod layer;
mod limits;
mod outcome;
pub mod policy;
pub mod schema;
mod tool;
mod toolset;

pub use backend::InProcess;
pub use conversation::Conversation;
pub use error::{Error, Result, Violation, retry_of};
pub use info::{Annotations, ToolInfo};
pub use limits::Limits;
pub use outcome::{Part, ToolOutcome};
pub use policy::{Constraint, Decision, Policy, Rule};
pub use schemars::{self, JsonSchema};
pub use tool::{Invocation, Tool, ToolError};
pub use toolset::{Toolset, ToolsetExt};
