//! Journals around a journal.

mod fault;

pub use fault::{Fault, FaultRates};
