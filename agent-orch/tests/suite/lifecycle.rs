//! Agents as a managed service, on a real stack: pools that scale, probes, the registry, and
//! another configuration while they work.

#![expect(clippy::unwrap_used, reason = "tests")]

mod host;
mod pools;
mod registry;
mod reload;
