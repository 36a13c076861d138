//! The time a guest sees.

use std::sync::Arc;
use std::time::Duration;

use agent_core::Clock;

use crate::spec::GuestClock;

/// The time one execution sees, in nanoseconds.
#[derive(Debug)]
pub(crate) enum GuestTime {
    Host(Arc<dyn Clock>),
    Virtual {
        now_ns: u64,
        origin_ns: u64,
        step_ns: u64,
    },
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl GuestTime {
    pub(crate) fn new(clock: GuestClock, host: Arc<dyn Clock>) -> Self {
        match clock {
            GuestClock::Host => Self::Host(host),
            GuestClock::Virtual { start, step } => {
                let origin_ns = start.as_unix_ms_u64().saturating_mul(1_000_000);
                Self::Virtual {
                    now_ns: origin_ns,
                    origin_ns,
                    step_ns: ns(step),
                }
            }
        }
    }

    pub(super) const fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual { .. })
    }

    /// Reads the wall clock.
    pub(super) fn realtime(&mut self) -> u64 {
        match self {
            Self::Host(clock) => clock.now().as_unix_ms_u64().saturating_mul(1_000_000),
            Self::Virtual {
                now_ns, step_ns, ..
            } => {
                let now = *now_ns;
                *now_ns = now.saturating_add(*step_ns);
                now
            }
        }
    }

    /// Reads the clock that never steps back.
    pub(super) fn monotonic(&mut self) -> u64 {
        match self {
            Self::Host(clock) => ns(clock.monotonic()),
            Self::Virtual { origin_ns, .. } => {
                let origin = *origin_ns;
                self.realtime().saturating_sub(origin)
            }
        }
    }

    /// The time files are stamped with: reading it does not move a virtual clock.
    pub(super) fn stamp(&self) -> u64 {
        match self {
            Self::Host(clock) => clock.now().as_unix_ms_u64().saturating_mul(1_000_000),
            Self::Virtual { now_ns, .. } => *now_ns,
        }
    }

    /// Moves a virtual clock, as a wait would.
    pub(super) const fn skip(&mut self, by_ns: u64) {
        if let Self::Virtual { now_ns, .. } = self {
            *now_ns = now_ns.saturating_add(by_ns);
        }
    }

    /// The smallest step, in nanoseconds.
    pub(super) const fn resolution(&self, realtime: bool) -> u64 {
        match self {
            Self::Host(_) if realtime => 1_000_000,
            Self::Virtual { step_ns, .. } if *step_ns > 0 => *step_ns,
            Self::Host(_) | Self::Virtual { .. } => 1,
        }
    }
}
