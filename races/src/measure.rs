//! Numbers: the samples of rounds, their medians, and the line each becomes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What a value counts, and whether more of it is better.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// More is better.
    More(&'static str),
    /// Less is better.
    Less(&'static str),
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::More(name) | Self::Less(name) => name,
        }
    }
}

/// One line of the result.
#[derive(Debug)]
pub(crate) struct Measure {
    /// `area/measure@size/contestant`.
    pub(crate) bench: String,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    /// What the baseline measured.
    pub(crate) baseline: f64,
    /// What the baseline is.
    pub(crate) against: String,
}

impl Measure {
    /// Returns how many times better than the baseline the value is.
    fn ratio(&self) -> f64 {
        let (better, worse) = match self.unit {
            Unit::More(_) => (self.value, self.baseline),
            Unit::Less(_) => (self.baseline, self.value),
        };
        if worse > 0.0 { better / worse } else { 0.0 }
    }

    /// Returns the line over the columns.
    pub(crate) fn heading() -> String {
        format!(
            "{:<58} {:>10} {:<12} {:>10} {:>9}  against",
            "race", "value", "unit", "baseline", "ratio"
        )
    }

    /// Returns the measure as one JSON object, with the keys that the benchmarks of the repository
    /// print.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            bench: &'a str,
            value: f64,
            unit: &'a str,
            baseline: f64,
            ratio: f64,
        }
        let rounded = |number: f64| (number * 1e3).round() / 1e3;
        serde_json::to_string(&Line {
            bench: &self.bench,
            value: rounded(self.value),
            unit: self.unit.name(),
            baseline: rounded(self.baseline),
            ratio: rounded(self.ratio()),
        })
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<58} {:>10} {:<12} {:>10} {:>9}  {}",
            self.bench,
            figure(self.value),
            self.unit.name(),
            figure(self.baseline),
            format!("{:.2}x", self.ratio()),
            self.against
        )
    }
}

/// Writes a number with the digits that mean something.
fn figure(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

/// What several rounds, or several calls of one round, gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Adds times in a unit of which a second has so many.
    pub(crate) fn extend(&mut self, times: &[Duration], per_second: f64) {
        self.0
            .extend(times.iter().map(|time| time.as_secs_f64() * per_second));
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// Returns the smallest sample that at least `percent` of all do not exceed; 0 without any.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(n).copied().unwrap_or(0.0)
    }
}

/// A rate: so many done in so much time.
pub(crate) fn rate(n_done: u32, took: Duration) -> f64 {
    f64::from(n_done) / took.as_secs_f64().max(f64::MIN_POSITIVE)
}
