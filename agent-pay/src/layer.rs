//! Ledgers around a ledger. Put [`Retry`] outside whatever can lose answers.

mod fault;
mod retry;

pub use fault::{Fault, FaultRates};
pub use retry::Retry;
