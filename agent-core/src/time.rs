//! Time as a dependency: reading the clock and waiting go through one trait, so that a test can
//! move both together.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// Creates a moment from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_ms(self) -> i64 {
        self.0
    }

    /// Returns the milliseconds since the Unix epoch, zero for moments before it.
    #[must_use]
    pub fn as_unix_ms_u64(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    /// Returns the moment `duration` later, or the last representable one.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// Returns the year, month and day of the moment in UTC.
    #[must_use]
    pub fn utc_date(self) -> (i64, u32, u32) {
        let (year, month, day) = civil_from_days(self.0.div_euclid(86_400_000));
        // Months and days are small and positive.
        let small = |n: i64| u32::try_from(n).unwrap_or(0);
        (year, small(month), small(day))
    }

    /// Returns the time from `earlier` to this moment, zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with milliseconds, for example `2026-11-22T22:45:13.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let (s, ms) = (ms / 1_000, ms % 1_000);
        let (hour, minute, second) = (s / 3_600, s / 60 % 60, s % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

/// Converts days since the epoch to a proleptic Gregorian date, by Howard Hinnant's
/// `civil_from_days` (chrono-Compatible Low-Level Date Algorithms).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Reads time and waits for it.
///
/// This is the contract for _implementors_; hosts take [`SystemClock`]. Whoever waits on a clock
/// and whoever reads it must agree, which is why both are here.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall-clock time. It may step backwards when the system's clock is set.
    fn now(&self) -> Timestamp;

    /// Returns time since a fixed origin of this clock. It never steps backwards.
    fn monotonic(&self) -> Duration;

    /// Waits until `now()` is at least `deadline`.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future stops waiting and has no other effect.
    async fn sleep_until(&self, deadline: Timestamp);
}

/// Shorthands over [`Clock`], for users. Do not implement it.
#[async_trait]
pub trait ClockExt: Clock {
    /// Waits for `duration`.
    async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now().after(duration)).await;
    }

    /// Runs `future` until it ends or `deadline` passes, whichever is first.
    async fn deadline<F>(&self, deadline: Timestamp, future: F) -> Option<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.sleep_until(deadline) => None,
        }
    }
}

impl<C: Clock + ?Sized> ClockExt for C {}

/// The system's clock, waiting on the host's tokio timer.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// How late a wait may notice that the wall clock was set forward, or the machine slept.
    const RECHECK: Duration = Duration::from_secs(60);

    /// Creates a clock whose monotonic origin is the moment of the call.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    pub fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that waits on the timer"
    )]
    async fn sleep_until(&self, deadline: Timestamp) {
        // The wall clock may have been set while the timer ran: wait again until it agrees.
        loop {
            let left = deadline.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Self::RECHECK)).await;
        }
    }
}

/// A clock that moves only when told to.
#[cfg(feature = "test-util")]
#[derive(Debug)]
pub struct ManualClock {
    now_ms: tokio::sync::watch::Sender<i64>,
    start_ms: i64,
}

#[cfg(feature = "test-util")]
impl ManualClock {
    /// Creates a clock that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self {
            now_ms: tokio::sync::watch::Sender::new(start.0),
            start_ms: start.0,
        }
    }

    /// Moves the clock forward and wakes whoever waited for that.
    pub fn advance(&self, by: Duration) {
        self.now_ms
            .send_modify(|ms| *ms = Timestamp(*ms).after(by).0);
    }
}

#[cfg(feature = "test-util")]
#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(*self.now_ms.borrow())
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp(self.start_ms))
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        let mut moves = self.now_ms.subscribe();
        // The sender lives in `self`, which this future borrows, so the wait cannot fail.
        let _reached = moves.wait_for(|ms| *ms >= deadline.0).await;
    }
}
