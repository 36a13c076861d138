//! One thing a grant permits, and what it means for one capability to be narrower than another.

use std::cmp::Ordering;
use std::fmt;

use agent_core::{Amount, Effect, Timestamp};

use super::pattern::Pattern;
use crate::error::{Error, Result};

/// The largest integer JSON carries exactly (RFC 8785 builds on IEEE 754 doubles).
pub(super) const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Permission for effects whose action and target both match. A limit that is not set does not
/// limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capability {
    /// Which actions, as [`Effect::action`].
    pub action: Pattern,
    /// Which targets, as [`Effect::target`].
    pub target: Pattern,
    /// The most all effects under this capability may cost together, whoever below causes them.
    pub spend_max: Option<Amount>,
    /// The most effects under this capability, whoever below causes them.
    pub calls_max: Option<u64>,
    /// When the capability ends, if that is before the grant does.
    pub expires: Option<Timestamp>,
}

impl Capability {
    /// Creates a capability without limits from two [`Pattern`]s.
    ///
    /// # Errors
    /// `Invalid` for a malformed pattern.
    pub fn new(action: &str, target: &str) -> Result<Self> {
        Ok(Self {
            action: Pattern::new(action)?,
            target: Pattern::new(target)?,
            spend_max: None,
            calls_max: None,
            expires: None,
        })
    }

    /// Limits what all effects may cost together. Default: not limited here.
    #[must_use]
    pub const fn with_spend_max(mut self, spend_max: Amount) -> Self {
        self.spend_max = Some(spend_max);
        self
    }

    /// Limits how many effects there may be. Default: not limited here.
    #[must_use]
    pub const fn with_calls_max(mut self, calls_max: u64) -> Self {
        self.calls_max = Some(calls_max);
        self
    }

    /// Ends the capability before the grant. Default: it ends with the grant.
    #[must_use]
    pub const fn with_expiry(mut self, expires: Timestamp) -> Self {
        self.expires = Some(expires);
        self
    }

    /// Returns whether the capability permits an effect by itself, whatever has been used up.
    #[must_use]
    pub fn permits(&self, effect: &Effect, at: Timestamp) -> bool {
        self.covers(effect)
            && self.expires.is_none_or(|expires| at < expires)
            && self.affords(effect)
    }

    pub(super) fn covers(&self, effect: &Effect) -> bool {
        self.action.covers(&effect.action) && self.target.covers(&effect.target)
    }

    pub(super) fn affords(&self, effect: &Effect) -> bool {
        let call_fits = self.calls_max.is_none_or(|calls| calls > 0);
        let cost_fits = match (self.spend_max, effect.cost_max) {
            (_, Some(cost)) if cost.is_negative() => false,
            (Some(max), Some(cost)) => {
                matches!(cost.compare(&max), Ok(Ordering::Less | Ordering::Equal))
            }
            (None, _) | (_, None) => true,
        };
        call_fits && cost_fits
    }

    /// Returns in which respect `child` permits more than this capability; `index` is the child's.
    pub(super) fn widening(&self, child: &Self, index: usize) -> Option<Widening> {
        if !self.action.includes(&child.action) || !self.target.includes(&child.target) {
            return Some(Widening::Capability {
                index,
                action: child.action.clone(),
                target: child.target.clone(),
            });
        }
        if let Some(parent) = self.spend_max
            && !child.spend_max.is_some_and(|max| {
                matches!(max.compare(&parent), Ok(Ordering::Less | Ordering::Equal))
            })
        {
            return Some(Widening::Spend {
                index,
                parent,
                child: child.spend_max,
            });
        }
        if let Some(parent) = self.calls_max
            && child.calls_max.is_none_or(|max| max > parent)
        {
            return Some(Widening::Calls {
                index,
                parent,
                child: child.calls_max,
            });
        }
        if let Some(parent) = self.expires
            && child.expires.is_none_or(|expires| expires > parent)
        {
            return Some(Widening::CapabilityExpiry {
                index,
                parent,
                child: child.expires,
            });
        }
        None
    }

    pub(super) fn check(&self) -> Result<()> {
        let bad = |reason| Err(Error::invalid("capability", reason));
        if self
            .spend_max
            .is_some_and(|max| max.units_i64().is_err() || max.is_negative())
        {
            return bad("the spend limit is negative or does not fit in 63 bits");
        }
        if self.calls_max.is_some_and(|max| max > JSON_INTEGER_MAX) {
            return bad("the call limit is above 2^53 - 1");
        }
        if self.expires.is_some_and(|at| !is_storable(at)) {
            return bad("the expiry is before 1970 or above 2^53 - 1 milliseconds");
        }
        Ok(())
    }
}

/// Returns whether a moment can stand in a grant.
pub(super) fn is_storable(at: Timestamp) -> bool {
    u64::try_from(at.as_unix_ms()).is_ok_and(|ms| ms <= JSON_INTEGER_MAX)
}

/// In which respect a link grants more than the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Widening {
    /// No capability of the parent includes this one.
    #[non_exhaustive]
    Capability {
        /// Its position in the link.
        index: usize,
        /// Its actions.
        action: Pattern,
        /// Its targets.
        target: Pattern,
    },
    /// The spend limit is higher, of another asset, or missing.
    #[non_exhaustive]
    Spend {
        /// The capability's position in the link.
        index: usize,
        /// What the parent allows.
        parent: Amount,
        /// What the link asks for.
        child: Option<Amount>,
    },
    /// The call limit is higher or missing.
    #[non_exhaustive]
    Calls {
        /// The capability's position in the link.
        index: usize,
        /// What the parent allows.
        parent: u64,
        /// What the link asks for.
        child: Option<u64>,
    },
    /// The capability ends later than the parent's.
    #[non_exhaustive]
    CapabilityExpiry {
        /// The capability's position in the link.
        index: usize,
        /// When the parent's ends.
        parent: Timestamp,
        /// When the link's ends.
        child: Option<Timestamp>,
    },
    /// The link ends later than its parent.
    #[non_exhaustive]
    Expiry {
        /// When the parent ends.
        parent: Timestamp,
        /// When the link ends.
        child: Timestamp,
    },
    /// The link begins before its parent.
    #[non_exhaustive]
    NotBefore {
        /// When the parent begins.
        parent: Timestamp,
        /// When the link begins.
        child: Timestamp,
    },
    /// The link may be delegated as often as its parent, or the parent not at all.
    #[non_exhaustive]
    Depth {
        /// How many more links the parent allows.
        parent: u8,
        /// How many more the link allows.
        child: u8,
    },
}

impl fmt::Display for Widening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability {
                index,
                action,
                target,
            } => write!(
                f,
                "capability {index}, action {action:?} on target {target:?}, is not held"
            ),
            Self::Spend {
                index,
                parent,
                child,
            } => write!(
                f,
                "capability {index} may spend {}, only {parent} is held",
                Shown(child.as_ref())
            ),
            Self::Calls {
                index,
                parent,
                child,
            } => write!(
                f,
                "capability {index} may call {} times, only {parent} are held",
                Shown(child.as_ref())
            ),
            Self::CapabilityExpiry {
                index,
                parent,
                child,
            } => write!(
                f,
                "capability {index} ends {}, the one held ends {parent}",
                Shown(child.as_ref())
            ),
            Self::Expiry { parent, child } => {
                write!(f, "it ends {child}, the grant held ends {parent}")
            }
            Self::NotBefore { parent, child } => {
                write!(f, "it begins {child}, the grant held begins {parent}")
            }
            Self::Depth { parent, child } => write!(
                f,
                "it asks for {child} further delegations, the grant held allows {parent} with it"
            ),
        }
    }
}

struct Shown<'a, T>(Option<&'a T>);

impl<T: fmt::Display> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("without limit"),
        }
    }
}
