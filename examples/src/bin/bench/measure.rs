//! Numbers: samples of rounds, their medians, and the line each becomes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What a value counts, which decides whether more of it is better.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Things done per second: more is better.
    PerSecond(&'static str),
    /// Microseconds: less is better.
    Micros,
    /// Milliseconds: less is better.
    Millis,
    /// Kibibytes: less is better.
    Kib,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::PerSecond(name) => name,
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::Kib => "KiB",
        }
    }

    /// Expresses a time in the unit.
    pub(crate) fn of(self, time: Duration) -> f64 {
        match self {
            Self::Micros => time.as_secs_f64() * 1e6,
            Self::Millis => time.as_secs_f64() * 1e3,
            Self::PerSecond(_) | Self::Kib => time.as_secs_f64(),
        }
    }
}

/// One line of the result.
#[derive(Debug)]
pub(crate) struct Measure {
    /// `area/measure@size`.
    name: String,
    value: f64,
    unit: Unit,
    baseline: f64,
    /// What the number holds for, beyond what holds for the whole run.
    environment: String,
}

impl Measure {
    /// Compares the medians of two series.
    pub(crate) fn of(
        name: impl Into<String>,
        unit: Unit,
        ours: &Samples,
        baseline: &Samples,
        environment: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            value: ours.median(),
            unit,
            baseline: baseline.median(),
            environment: environment.into(),
        }
    }

    /// Returns how many times better than the baseline the value is.
    fn ratio(&self) -> f64 {
        let (better, worse) = match self.unit {
            Unit::PerSecond(_) => (self.value, self.baseline),
            Unit::Micros | Unit::Millis | Unit::Kib => (self.baseline, self.value),
        };
        if worse > 0.0 { better / worse } else { 0.0 }
    }

    /// Returns the line over the columns.
    pub(crate) fn heading() -> String {
        format!(
            "{:<32} {:>10} {:<11} {:>10} {:>8}  environment",
            "bench", "value", "unit", "baseline", "ratio"
        )
    }

    /// Returns the measure as one JSON object.
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
            bench: &self.name,
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
            "{:<32} {:>10} {:<11} {:>10} {:>8}  {}",
            self.name,
            figure(self.value),
            self.unit.name(),
            figure(self.baseline),
            format!("{:.2}x", self.ratio()),
            self.environment
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
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Adds a rate: so many done in so much time.
    pub(crate) fn push_rate(&mut self, n_done: u32, took: Duration) {
        self.push(f64::from(n_done) / took.as_secs_f64().max(f64::MIN_POSITIVE));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(all: &[f64]) -> Samples {
        Samples(all.to_vec())
    }

    fn line(unit: Unit, ours: f64, baseline: f64) -> serde_json::Value {
        let measure = Measure::of(
            "area/measure@1",
            unit,
            &samples(&[ours]),
            &samples(&[baseline]),
            "",
        );
        serde_json::from_str(&measure.to_json().unwrap()).unwrap()
    }

    #[test]
    fn a_ratio_above_one_is_better_whatever_the_unit() {
        assert_eq!(
            line(Unit::PerSecond("writes/s"), 300.0, 100.0)["ratio"],
            3.0
        );
        assert_eq!(line(Unit::Micros, 100.0, 300.0)["ratio"], 3.0);
        assert_eq!(line(Unit::Millis, 300.0, 100.0)["ratio"], 0.333);
        assert_eq!(line(Unit::Micros, 0.0, 300.0)["ratio"], 0.0);
    }

    #[test]
    fn a_line_has_five_keys() {
        let line = line(Unit::PerSecond("writes/s"), 1.0, 2.0);
        let mut keys: Vec<_> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, ["baseline", "bench", "ratio", "unit", "value"]);
    }

    #[test]
    fn percentiles_are_samples() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let hundred = samples(&hundred);
        assert!((hundred.median() - 50.0).abs() < 1e-9);
        assert!((hundred.percentile(99) - 99.0).abs() < 1e-9);
        assert!(samples(&[]).median().abs() < 1e-9);
    }
}
