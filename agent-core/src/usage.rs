//! What was consumed, in counted units; prices are `agent-pay`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::scope::Scope;
use crate::time::Timestamp;

/// A counted unit of consumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unit {
    /// Calls of a tool, model or guest.
    Calls,
    /// LLM tokens read, without the cached ones.
    TokensIn,
    /// LLM tokens written, without the reasoning ones.
    TokensOut,
    /// LLM tokens read from the provider's cache.
    TokensCached,
    /// LLM tokens spent on hidden reasoning.
    TokensReasoning,
    /// Microseconds of CPU time.
    CpuUs,
    /// Microseconds of wall time.
    WallUs,
    /// Guest memory held, in mebibyte-milliseconds.
    MemoryMibMs,
    /// wasm fuel.
    Fuel,
    /// Bytes written to storage.
    StorageBytes,
    /// Bytes sent out of a sandbox.
    EgressBytes,
}

impl Unit {
    /// Returns the stable name the unit is stored under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::TokensCached => "tokens_cached",
            Self::TokensReasoning => "tokens_reasoning",
            Self::CpuUs => "cpu_us",
            Self::WallUs => "wall_us",
            Self::MemoryMibMs => "memory_mib_ms",
            Self::Fuel => "fuel",
            Self::StorageBytes => "storage_bytes",
            Self::EgressBytes => "egress_bytes",
        }
    }
}

/// Quantities by unit. Sums saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(BTreeMap<Unit, u64>);

impl Usage {
    /// Nothing consumed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a quantity.
    #[must_use]
    pub fn with(mut self, unit: Unit, quantity: u64) -> Self {
        self.add(unit, quantity);
        self
    }

    /// Adds a quantity in place.
    pub fn add(&mut self, unit: Unit, quantity: u64) {
        let sum = self.0.entry(unit).or_default();
        *sum = sum.saturating_add(quantity);
    }

    /// Adds all quantities of another usage.
    pub fn merge(&mut self, other: &Self) {
        for (unit, quantity) in other.iter() {
            self.add(unit, quantity);
        }
    }

    /// Returns the quantity of a unit.
    #[must_use]
    pub fn get(&self, unit: Unit) -> u64 {
        self.0.get(&unit).copied().unwrap_or(0)
    }

    /// Returns whether nothing was consumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|quantity| *quantity == 0)
    }

    /// Iterates in the order of the units.
    pub fn iter(&self) -> impl Iterator<Item = (Unit, u64)> + '_ {
        self.0.iter().map(|(unit, quantity)| (*unit, *quantity))
    }
}

/// One metered consumption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageRecord {
    /// Which meter counted it; with `id` the key that removes duplicates.
    pub source: String,
    /// The meter's own number for this consumption.
    pub id: String,
    /// What was consumed: a model, a tool, a sandbox backend. Prices are looked up by it.
    pub resource: String,
    /// The quantities.
    pub usage: Usage,
    /// When it was counted.
    pub at: Timestamp,
}

impl UsageRecord {
    /// Creates a record.
    #[must_use]
    pub fn new(
        source: impl Into<String>,
        id: impl Into<String>,
        resource: impl Into<String>,
        usage: Usage,
        at: Timestamp,
    ) -> Self {
        Self {
            source: source.into(),
            id: id.into(),
            resource: resource.into(),
            usage,
            at,
        }
    }
}

/// Takes note of consumption.
#[async_trait]
pub trait Meter: fmt::Debug + Send + Sync + 'static {
    /// Records a consumption once: a second record of the same (source, id) changes nothing.
    ///
    /// # Errors
    /// Of any kind if the record was not kept.
    ///
    /// # Cancel safety
    /// Atomic: the record is kept whole or not at all.
    async fn record(&self, scope: &Scope, record: UsageRecord) -> Result<()>;
}

#[async_trait]
impl<M: Meter + ?Sized> Meter for Arc<M> {
    async fn record(&self, scope: &Scope, record: UsageRecord) -> Result<()> {
        (**self).record(scope, record).await
    }
}
