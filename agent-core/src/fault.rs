//! Planted faults: what networks and processes do to calls, decided by a seeded source.
//!
//! Layers wrap a backend with a [`Chaos`] to show that retries, idempotency keys and recovery work.
//! It is part of every build, so that a fleet can rehearse its faults.

use std::sync::Arc;

use crate::entropy::{Entropy, EntropyExt};
use crate::error::{Error, ErrorKind, Retry};

/// What happens to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: the call goes through.
    #[default]
    None,
    /// The request is lost: the call has no effect and its caller gets an error.
    LostRequest,
    /// The answer is lost: the call has its effect and its caller gets an error.
    LostAnswer,
    /// The answer is late.
    Slow,
    /// The request arrives twice.
    Duplicate,
}

impl Fault {
    /// Returns the error a caller sees; `None` for faults that end in an answer.
    #[must_use]
    pub fn error(self, operation: &'static str) -> Option<Error> {
        let (retry, reason) = match self {
            Self::LostRequest => (Retry::Safe, "the request was lost"),
            Self::LostAnswer => (Retry::Unknown, "the answer was lost"),
            Self::None | Self::Slow | Self::Duplicate => return None,
        };
        Some(Error::backend(
            "chaos",
            operation,
            ErrorKind::Unavailable,
            retry,
            reason,
        ))
    }
}

/// Decides the fault of each call. The same seed and order of calls give the same faults.
///
/// ```
/// use std::sync::Arc;
/// use agent_core::{SeededEntropy, fault::{Chaos, Fault}};
/// let chaos = Chaos::new(Arc::new(SeededEntropy::new(7))).with(Fault::LostAnswer, 1_000_000);
/// assert_eq!(chaos.next(), Fault::LostAnswer);
/// ```
#[derive(Clone, Debug)]
pub struct Chaos {
    entropy: Arc<dyn Entropy>,
    per_million: [(Fault, u32); 4],
}

impl Chaos {
    /// Creates a source without faults.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            per_million: [
                (Fault::LostRequest, 0),
                (Fault::LostAnswer, 0),
                (Fault::Slow, 0),
                (Fault::Duplicate, 0),
            ],
        }
    }

    /// Sets how many of a million calls suffer `fault`. Default: none. Where the sum of all
    /// faults exceeds a million, the later ones of [`Fault`]'s order happen less often.
    #[must_use]
    pub fn with(mut self, fault: Fault, per_million: u32) -> Self {
        for (known, share) in &mut self.per_million {
            if *known == fault {
                *share = per_million;
            }
        }
        self
    }

    /// Sets the same share for every fault. Default: none.
    #[must_use]
    pub fn with_each(mut self, per_million: u32) -> Self {
        for (_fault, share) in &mut self.per_million {
            *share = per_million;
        }
        self
    }

    /// Decides about the next call.
    #[must_use]
    pub fn next(&self) -> Fault {
        let mut drawn = self.entropy.next_u64() % 1_000_000;
        for (fault, share) in self.per_million {
            let share = u64::from(share);
            if drawn < share {
                return fault;
            }
            drawn = drawn.saturating_sub(share);
        }
        Fault::None
    }
}
