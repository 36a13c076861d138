//! Curation on generated timelines: facts that change, are contradicted, retracted, repeated, told
//! late and erased, with what is to be believed at each moment.
//!
//! The belief is computed by a fold of a few lines over what was said, in the order it was said. A
//! timeline is given to a [`Curator`] twice: as typed claims, where every belief must be right, and
//! as English sentences, where the extractor is scored: plain ones, freely worded ones that its rules
//! were widened on, and freely worded ones that no rule was made or changed after.

mod generate;
mod phrases;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Principal, Scope, Timestamp};

use crate::conformance::Bench;
use crate::curate::Curator;
use crate::extract::{Candidate, Cardinality, DeterministicExtractor, Extractor, Slot};
use crate::{
    Draft, Filter, Listing, MemoryId, MemoryStore, Namespace, Result, Selection, Test, backend,
    label,
};

pub use generate::{Statement, Style, Timeline};

/// Whose timeline it is.
const SUBJECT: &str = "Ana";

/// How well beliefs were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Score {
    /// Timelines.
    pub n_timelines: usize,
    /// Statements in them.
    pub n_statements: usize,
    /// Slots that something was said about.
    pub n_slots: usize,
    /// Slots that hold a value at the end, by the fold.
    pub n_expected: usize,
    /// Slots that are believed to hold one.
    pub n_believed: usize,
    /// Slots with the right value.
    pub n_right: usize,
    /// Slots with a value that held once and does not any more.
    pub n_stale: usize,
    /// Records that hold beside another of their slot.
    pub n_duplicates: usize,
    /// Pairs of a slot and a moment.
    pub n_moments: usize,
    /// Those with the right belief, or rightly none.
    pub n_moments_right: usize,
}

impl Score {
    fn add(&mut self, other: Self) {
        self.n_timelines += other.n_timelines;
        self.n_statements += other.n_statements;
        self.n_slots += other.n_slots;
        self.n_expected += other.n_expected;
        self.n_believed += other.n_believed;
        self.n_right += other.n_right;
        self.n_stale += other.n_stale;
        self.n_duplicates += other.n_duplicates;
        self.n_moments += other.n_moments;
        self.n_moments_right += other.n_moments_right;
    }

    /// Of the values believed at the end, how many are right.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.n_right, self.n_believed)
    }

    /// Of the values to be believed at the end, how many are.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.n_right, self.n_expected)
    }

    /// Of the slots, how many show a value that is over.
    #[must_use]
    pub fn stale(&self) -> f64 {
        share(self.n_stale, self.n_slots)
    }

    /// Of the moments, how many have the right belief.
    #[must_use]
    pub fn as_of(&self) -> f64 {
        share(self.n_moments_right, self.n_moments)
    }
}

fn share(n: usize, of: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if of == 0 { 1.0 } else { number(n) / number(of) }
}

/// How a timeline is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Told {
    /// As typed claims.
    Typed,
    /// As sentences.
    InWords,
}

/// Scores the timelines of the seeds `0..n` in main memory; each has a store of its own. `style`
/// takes only those of a style.
///
/// # Errors
/// The curator's.
///
/// # Cancel safety
/// Cancel safe.
pub async fn score(
    n: u64,
    told: Told,
    style: Option<Style>,
    extractor: Arc<dyn Extractor>,
) -> Result<Score> {
    let mut total = Score::default();
    for seed in 0..n {
        let is_unseen = style == Some(Style::Unseen) && !seed.is_multiple_of(2);
        let timeline = if is_unseen {
            Timeline::generate_in(seed, Style::Unseen)
        } else {
            Timeline::generate(seed)
        };
        if style.is_none_or(|style| style == timeline.style) {
            total.add(score_one(&timeline, told, Arc::clone(&extractor)).await?);
        }
    }
    Ok(total)
}

/// The extractor the suite scores by default.
#[must_use]
pub fn rules() -> Arc<dyn Extractor> {
    Arc::new(DeterministicExtractor::new())
}

/// Scores one timeline.
///
/// # Errors
/// The curator's.
///
/// # Cancel safety
/// Cancel safe.
pub async fn score_one(
    timeline: &Timeline,
    told: Told,
    extractor: Arc<dyn Extractor>,
) -> Result<Score> {
    let bench = Bench::new();
    let store = backend::InMemory::new(bench.env.clone(), Arc::clone(&bench.embedder));
    let at = Namespace::new("timeline")?;
    score_in(Arc::new(store), &bench, at, timeline, told, extractor).await
}

/// Scores one timeline in an empty namespace of a store that was made on a bench.
///
/// # Errors
/// The curator's.
///
/// # Cancel safety
/// Cancel safe; what was told stays in the store.
pub async fn score_in(
    store: Arc<dyn MemoryStore>,
    bench: &Bench,
    at: Namespace,
    timeline: &Timeline,
    told: Told,
    extractor: Arc<dyn Extractor>,
) -> Result<Score> {
    let run = Run {
        curator: Curator::new(store, bench.env.clone(), extractor),
        bench,
        scope: Scope::new(Principal::host()),
        at,
    };
    run.tell(timeline, told).await?;
    run.judge(timeline).await
}

struct Run<'a> {
    curator: Curator<Arc<dyn MemoryStore>>,
    bench: &'a Bench,
    scope: Scope,
    at: Namespace,
}

impl Run<'_> {
    async fn tell(&self, timeline: &Timeline, told: Told) -> Result<()> {
        let mut events: BTreeMap<&str, Vec<MemoryId>> = BTreeMap::new();
        for statement in &timeline.arriving {
            self.bench.advance(Duration::from_secs(1));
            match told {
                Told::Typed => {
                    let candidates = candidate(statement)?.into_iter().collect();
                    self.curator
                        .apply(&self.scope, &self.at, candidates)
                        .await?;
                }
                Told::InWords => {
                    let draft = Draft::event(&statement.text).occurred_at(statement.said_at);
                    let said = self.curator.remember(&self.scope, &self.at, SUBJECT, draft);
                    if let crate::curate::Outcome::Kept(id) = said.await?.outcome {
                        events.entry(&statement.value).or_default().push(id);
                    }
                }
            }
        }
        // The clock is behind everything that was said.
        self.bench.advance(Duration::from_secs(86_400 * 3_650));
        if let Some(erased) = &timeline.erased {
            let mut ids = events.remove(erased.value.as_str()).unwrap_or_default();
            let records = self.records(erased).await?;
            ids.extend(
                records
                    .iter()
                    .filter(|(value, _)| *value == erased.value.to_lowercase())
                    .map(|(_, id)| *id),
            );
            let what = Selection::Ids(ids);
            let reason = "asked to".to_owned();
            self.curator
                .store()
                .forget(&self.scope, self.at.clone(), what, reason)
                .await?;
        }
        Ok(())
    }

    /// The values and ids of every record of the statement's slot.
    async fn records(&self, statement: &Statement) -> Result<Vec<(String, MemoryId)>> {
        let key = slot_key(statement)?;
        let filter = Filter::new().label(label::SLOT, Test::Is(key.into()));
        let listing = Listing::new().with_filter(filter).with_retired();
        let found = self
            .curator
            .store()
            .list(&self.scope, self.at.clone(), listing)
            .await?;
        let value = |memory: &crate::Memory| match memory.metadata.get(crate::curate::labels::VALUE)
        {
            Some(crate::Value::Text(value)) => value.to_lowercase(),
            _ => String::new(),
        };
        Ok(found
            .iter()
            .map(|memory| (value(memory), memory.id))
            .collect())
    }

    async fn judge(&self, timeline: &Timeline) -> Result<Score> {
        let mut score = Score {
            n_timelines: 1,
            n_statements: timeline.arriving.len(),
            ..Score::default()
        };
        let slots: BTreeMap<String, &Statement> = timeline
            .arriving
            .iter()
            .filter(|statement| !statement.attribute.is_empty())
            .map(|statement| (statement.key(), statement))
            .collect();
        let moments: BTreeSet<Timestamp> = timeline
            .arriving
            .iter()
            .map(|statement| statement.said_at.after(Duration::from_secs(3_600)))
            .collect();
        let end = self.bench.env.clock.now();
        for (key, statement) in slots {
            for moment in &moments {
                let believed = self.believed(statement, *moment).await?;
                score.n_moments += 1;
                score.n_moments_right += usize::from(believed == timeline.expected(&key, *moment));
            }
            let believed = self.believed(statement, end).await?;
            let expected = timeline.expected(&key, end);
            score.n_slots += 1;
            score.n_expected += usize::from(expected.is_some());
            score.n_believed += usize::from(believed.is_some());
            let is_right = believed.is_some() && believed == expected;
            score.n_right += usize::from(is_right);
            let was_said = believed.is_some_and(|value| timeline.was_said(&key, &value));
            score.n_stale += usize::from(was_said && !is_right);
            let filter = Filter::new().label(label::SLOT, Test::Is(slot_key(statement)?.into()));
            let listing = Listing::new().with_filter(filter);
            let open = self
                .curator
                .store()
                .list(&self.scope, self.at.clone(), listing)
                .await?;
            score.n_duplicates += open.len().saturating_sub(1);
        }
        Ok(score)
    }

    async fn believed(&self, statement: &Statement, when: Timestamp) -> Result<Option<String>> {
        let slot = Slot::new(SUBJECT, &statement.attribute)?;
        let entry = if statement.is_many {
            let value = (&slot, statement.value.as_str());
            self.curator
                .one_of(&self.scope, &self.at, value, when)
                .await?
        } else {
            self.curator
                .value(&self.scope, &self.at, &slot, when)
                .await?
        };
        Ok(entry.map(|entry| entry.value.to_lowercase()))
    }
}

/// The label of the slot that a statement is about.
fn slot_key(statement: &Statement) -> Result<String> {
    let key = Slot::new(SUBJECT, &statement.attribute)?.key();
    Ok(if statement.is_many {
        format!("{key}={}", crate::extract::normalized(&statement.value))
    } else {
        key
    })
}

fn candidate(statement: &Statement) -> Result<Option<Candidate>> {
    if statement.attribute.is_empty() {
        return Ok(None);
    }
    let slot = Slot::new(SUBJECT, &statement.attribute)?;
    let cardinality = if statement.is_many {
        Cardinality::Many
    } else {
        Cardinality::Single
    };
    let (value, at) = (statement.value.clone(), statement.said_at);
    Ok(Some(if statement.is_over {
        Candidate::is_not(slot, Some(value), at)
    } else {
        Candidate::is(slot, value, cardinality, at)
    }))
}
