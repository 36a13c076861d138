//! The contract for what must be remembered about grants: which are revoked, and how much of their
//! limits is used.

use std::fmt;

use agent_core::{Amount, Digest, IdempotencyKey, Principal, Scope, Timestamp};
use async_trait::async_trait;

use crate::error::Result;
use crate::grant::{Capability, GrantId, Link};

/// The longest page of [`GrantStore::revocations`].
pub const PAGE_MAX: usize = 1_000;
/// The most grants in one call of [`GrantStore::revoke`].
pub const REVOKE_MAX: usize = 1_000;
/// The longest reason of a revocation that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 1_024;

/// That a grant is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// The link; every chain it is part of is revoked.
    pub grant: GrantId,
    /// When the link ends by itself, after which the revocation may be forgotten.
    pub expires: Timestamp,
    /// When it was revoked.
    pub at: Timestamp,
    /// Who revoked it.
    pub by: Principal,
    /// Why.
    pub reason: String,
}

impl Revocation {
    /// Puts a revocation together, for implementors.
    #[must_use]
    pub const fn new(
        grant: GrantId,
        expires: Timestamp,
        at: Timestamp,
        by: Principal,
        reason: String,
    ) -> Self {
        Self {
            grant,
            expires,
            at,
            by,
            reason,
        }
    }
}

/// A limit that an effect counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counter {
    /// The link whose limit it is.
    pub grant: GrantId,
    /// The position of the capability in the link.
    pub capability: u32,
    /// The most calls.
    pub calls_max: Option<u64>,
    /// The most to spend.
    pub spend_max: Option<Amount>,
    /// When the link ends, after which the count may be forgotten.
    pub expires: Timestamp,
}

impl Counter {
    pub(crate) fn of(link: &Link, index: usize, capability: &Capability) -> Option<Self> {
        if capability.calls_max.is_none() && capability.spend_max.is_none() {
            return None;
        }
        Some(Self {
            grant: link.id,
            capability: u32::try_from(index).unwrap_or(u32::MAX),
            calls_max: capability.calls_max,
            spend_max: capability.spend_max,
            expires: link.terms.expires,
        })
    }
}

/// One effect to be counted against the limits of the grants that permit it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// The key under which it is counted once.
    pub key: IdempotencyKey,
    /// Which effect.
    pub effect: Digest,
    /// The most it may cost.
    pub cost: Option<Amount>,
    /// The ways in which it is permitted, in order of preference; the first with room is taken.
    pub ways: Vec<Vec<Counter>>,
}

impl Charge {
    pub(crate) const fn new(
        key: IdempotencyKey,
        effect: Digest,
        cost: Option<Amount>,
        ways: Vec<Vec<Counter>>,
    ) -> Self {
        Self {
            key,
            effect,
            cost,
            ways,
        }
    }

    /// Returns whether some way has no limit, so that nothing needs to be counted.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.ways.iter().any(Vec::is_empty)
    }
}

/// What a limit has been used for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Used {
    /// How many effects.
    pub calls: u64,
    /// What they may have cost, in units of the limit's asset.
    pub spend: i64,
}

impl Used {
    /// Puts a count together, for implementors.
    #[must_use]
    pub const fn new(calls: u64, spend: i64) -> Self {
        Self { calls, spend }
    }

    /// Returns the count with one more effect of that cost, or the limit in its way, for
    /// implementors.
    ///
    /// # Errors
    /// `Exhausted` naming the limit.
    pub fn with(self, counter: &Counter, cost: Option<Amount>) -> Result<Self> {
        let used_up = |limit| crate::Error::UsedUp {
            grant: counter.grant,
            limit,
        };
        let calls = self.calls.saturating_add(1);
        if counter.calls_max.is_some_and(|max| calls > max) {
            return Err(used_up("call"));
        }
        let mut spend = self.spend;
        if let (Some(max), Some(cost)) = (counter.spend_max, cost) {
            let so_far = Amount::from_units(self.spend.into(), max.asset());
            let left = max.minus(so_far).and_then(|max| max.minus(cost));
            if cost.is_negative() || !left.is_ok_and(|left| !left.is_negative()) {
                return Err(used_up("spend"));
            }
            let units = cost.units_i64().map_err(|_range| used_up("spend"))?;
            spend = spend.checked_add(units).ok_or_else(|| used_up("spend"))?;
        }
        Ok(Self { calls, spend })
    }
}

/// Whether a charge is counted or only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChargeMode {
    /// Count it.
    Take,
    /// Tell whether it could be counted, and change nothing.
    Try,
}

/// Remembers revocations and used limits.
///
/// This is the contract for _implementors_. It belongs to one host: grant ids are digests, so they
/// need no tenant. Implementations pass `grant_store_conformance!`.
#[async_trait]
pub trait GrantStore: fmt::Debug + Send + Sync + 'static {
    /// Revokes links, each with the moment it ends by itself ([`Timestamp`] of the link, or any
    /// later one if it is not known). In force when the call returns, and for all time: revoking a
    /// revoked link changes nothing.
    ///
    /// # Errors
    /// `Exhausted` for more than [`REVOKE_MAX`] grants, `Invalid` for a reason that is too long.
    ///
    /// # Cancel safety
    /// Atomic, and harmless to repeat.
    async fn revoke(
        &self,
        scope: &Scope,
        grants: Vec<(GrantId, Timestamp)>,
        reason: String,
    ) -> Result<()>;

    /// Returns whether a link is revoked, from memory: it is asked before every effect.
    fn is_revoked(&self, grant: GrantId) -> bool;

    /// Returns revocations ordered by grant, those behind `after`, at most `limit` and
    /// [`PAGE_MAX`].
    ///
    /// # Errors
    /// Of the storage.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn revocations(&self, after: Option<GrantId>, limit: usize) -> Result<Vec<Revocation>>;

    /// Counts an effect against every limit on the first way that has room, all or nothing. The
    /// same key and effect count once, in the scope's tenant.
    ///
    /// # Errors
    /// `Exhausted` if no way has room, naming the limit of the last; `Conflict` if the key was
    /// used for another effect.
    ///
    /// # Cancel safety
    /// Atomic, and harmless to repeat.
    async fn charge(&self, scope: &Scope, charge: Charge, mode: ChargeMode) -> Result<()>;

    /// Forgets what concerns grants that ended before a moment, and returns how many records that
    /// were. Leave a margin: a clock that is set back behind `before` would revive them.
    ///
    /// # Errors
    /// Of the storage.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn prune(&self, before: Timestamp) -> Result<u64>;
}

/// Refuses a revocation out of bounds, for implementors.
///
/// # Errors
/// As [`GrantStore::revoke`].
pub fn check_revoke(grants: &[(GrantId, Timestamp)], reason: &str) -> Result<()> {
    if grants.len() > REVOKE_MAX {
        return Err(crate::Error::TooMany {
            what: "grants in one call",
            max: REVOKE_MAX,
        });
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(crate::Error::invalid("reason", "longer than 1 KiB"));
    }
    Ok(())
}
