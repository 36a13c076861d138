//! What was found, counted.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::data::Question;

/// The numbers of units that recall is measured at.
const AT: [usize; 3] = [5, 10, 20];
/// The most units asked for.
pub(crate) const K_MAX: usize = 20;
const CATEGORIES: [(u8, &str); 5] = [
    (1, "multi-hop"),
    (2, "temporal"),
    (3, "open-domain"),
    (4, "single-hop"),
    (5, "adversarial"),
];

/// Evidence recall of one method: by question, its category and the shares found.
#[derive(Debug, Default)]
pub(crate) struct Recall(Vec<(u8, [f64; AT.len()])>);

impl Recall {
    /// Scores the places found for a question, best first.
    pub(crate) fn add(&mut self, question: &Question, found: &[usize]) {
        let share = |k: usize| {
            let first = found.get(..k.min(found.len())).unwrap_or_default();
            let n_found = question
                .evidence
                .iter()
                .filter(|e| first.contains(e))
                .count();
            ratio(n_found, question.evidence.len())
        };
        self.0.push((question.category, AT.map(share)));
    }

    /// The mean over the questions that `wanted` names.
    fn mean(&self, wanted: impl Fn(u8) -> bool) -> [f64; AT.len()] {
        let shares: Vec<&[f64; 3]> = self
            .0
            .iter()
            .filter(|(category, _)| wanted(*category))
            .map(|(_, shares)| shares)
            .collect();
        std::array::from_fn(|n| {
            let sum: f64 = shares.iter().filter_map(|share| share.get(n)).sum();
            sum / ratio(shares.len().max(1), 1)
        })
    }
}

/// What was shown of the first ten units within a budget of tokens, by question.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    tokens: Vec<usize>,
    evidence: Vec<f64>,
}

impl Contexts {
    pub(crate) fn add(&mut self, question: &Question, shown: &[usize], tokens: usize) {
        let is_shown = |place: &&usize| shown.contains(place);
        let n_shown = question.evidence.iter().filter(is_shown).count();
        self.evidence.push(ratio(n_shown, question.evidence.len()));
        self.tokens.push(tokens);
    }

    fn tokens_mean(&self) -> f64 {
        ratio(self.tokens.iter().sum(), self.tokens.len().max(1))
    }

    fn tokens_max(&self) -> usize {
        self.tokens.iter().copied().max().unwrap_or_default()
    }

    fn evidence_mean(&self) -> f64 {
        self.evidence.iter().sum::<f64>() / ratio(self.evidence.len().max(1), 1)
    }
}

/// The budgets that contexts are built with; the larger one leaves none of ten turns out.
const BUDGETS: [usize; 2] = [400, 4_000];

/// All that is reported.
#[derive(Debug)]
pub(crate) struct Scores {
    pub(crate) ours: Recall,
    pub(crate) fts5: Recall,
    /// What `ContextBuilder` shows of the first ten units within each budget, in word pieces.
    pub(crate) contexts: Vec<(usize, Contexts)>,
    pub(crate) add: Vec<Duration>,
    pub(crate) search: Vec<Duration>,
}

impl Default for Scores {
    fn default() -> Self {
        Self {
            ours: Recall::default(),
            fts5: Recall::default(),
            contexts: BUDGETS.map(|budget| (budget, Contexts::default())).into(),
            add: Vec::new(),
            search: Vec::new(),
        }
    }
}

impl Scores {
    /// The rows of the table: a name and which categories it holds.
    fn rows(&self) -> Vec<(&'static str, [f64; 3], [f64; 3])> {
        let row = |name, wanted: &dyn Fn(u8) -> bool| {
            (name, self.ours.mean(wanted), self.fts5.mean(wanted))
        };
        let mut rows: Vec<_> = CATEGORIES
            .iter()
            .map(|(category, name)| row(*name, &|c| c == *category))
            .collect();
        rows.push(row("1-4", &|c| c < 5));
        rows.push(row("all", &|_| true));
        rows
    }

    pub(crate) fn print(&self) {
        println!(
            "{} turns, {} questions; evidence recall at {AT:?} units, and FTS5 (porter) alone\n",
            self.add.len(),
            self.ours.0.len()
        );
        let shares = |shares: [f64; 3]| shares.map(|share| format!("{share:.3}")).join(" / ");
        for (name, ours, fts5) in self.rows() {
            println!("{name:<12} {}    {}", shares(ours), shares(fts5));
        }
        println!();
        for (budget, contexts) in &self.contexts {
            println!(
                "context      {:.0} word pieces of {budget} (at most {}), with {:.3} of the evidence, \
                 from the first 10 units",
                contexts.tokens_mean(),
                contexts.tokens_max(),
                contexts.evidence_mean(),
            );
        }
        for (name, times) in [("add", &self.add), ("search", &self.search)] {
            let [p50, p95] = percentiles(times);
            println!("{name:<12} p50 {p50:.2} ms, p95 {p95:.2} ms");
        }
    }

    pub(crate) fn print_json(&self) -> Result<()> {
        let line = |bench: String, value: f64, unit: &str, baseline: f64| {
            let line = json!({
                "bench": bench, "value": value, "unit": unit, "baseline": baseline,
                "ratio": if baseline > 0.0 { value / baseline } else { 0.0 },
            });
            println!("{}", serde_json::to_string(&line)?);
            Ok::<(), anyhow::Error>(())
        };
        for (name, ours, fts5) in self.rows() {
            for (k, (ours, fts5)) in AT.iter().zip(ours.into_iter().zip(fts5)) {
                line(format!("locomo/recall@{k}/{name}"), ours, "share", fts5)?;
            }
        }
        for (budget, contexts) in &self.contexts {
            let name = |what: &str| format!("locomo/context_{what}@10/{budget}");
            line(name("tokens"), contexts.tokens_mean(), "tokens", 0.0)?;
            line(name("evidence"), contexts.evidence_mean(), "share", 0.0)?;
        }
        for (name, times) in [("add", &self.add), ("search", &self.search)] {
            let [p50, p95] = percentiles(times);
            line(format!("locomo/{name}_p50"), p50, "ms", 0.0)?;
            line(format!("locomo/{name}_p95"), p95, "ms", 0.0)?;
        }
        Ok(())
    }
}

/// The median and the 95th percentile in milliseconds.
fn percentiles(times: &[Duration]) -> [f64; 2] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        let n = sorted.len().saturating_sub(1) * percent / 100;
        sorted.get(n).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    [at(50), at(95)]
}

#[expect(clippy::cast_precision_loss, reason = "counts of questions and words")]
fn ratio(n: usize, of: usize) -> f64 {
    n as f64 / of as f64
}
