//! What is searched for, and what is found.

mod listing;

use std::time::Duration;

use agent_core::Timestamp;

use crate::as_of::AsOf;
use crate::error::{Error, Result};
use crate::index::INDEXED;
use crate::memory::{Kind, Memory, Trust};
use crate::metadata::{self, Metadata, Value};
use crate::namespace::Namespace;

pub use listing::Listing;

/// A test of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Test {
    /// The label is there and has this value.
    Is(Value),
    /// The label is absent or has another value.
    IsNot(Value),
    /// The label has one of these values; at most [`Filter::VALUES_MAX`].
    OneOf(Vec<Value>),
    /// The label is a number of at least this.
    AtLeast(i64),
    /// The label is a number below this.
    Below(i64),
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Is(wanted), value) => value == Some(wanted),
            (Self::IsNot(refused), value) => value != Some(refused),
            (Self::OneOf(wanted), Some(value)) => wanted.contains(value),
            (Self::AtLeast(bound), Some(Value::Integer(number))) => number >= bound,
            (Self::Below(bound), Some(Value::Integer(number))) => number < bound,
            (Self::OneOf(_) | Self::AtLeast(_) | Self::Below(_), _) => false,
        }
    }
}

/// Which memories may be found: those that pass every condition.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Filter {
    kinds: Vec<Kind>,
    labels: Vec<(String, Test)>,
    thread: Option<String>,
    occurred_from: Option<Timestamp>,
    occurred_before: Option<Timestamp>,
    trust_min: Option<Trust>,
}

/// What a filter looks at.
pub(crate) struct Facts<'a> {
    pub(crate) kind: Kind,
    pub(crate) metadata: &'a Metadata,
    pub(crate) thread: Option<&'a str>,
    pub(crate) occurred_at: Timestamp,
    pub(crate) trust: Trust,
}

impl Filter {
    /// The most label tests.
    pub const TESTS_MAX: usize = 16;
    /// The most values in one test.
    pub const VALUES_MAX: usize = 64;

    /// Lets everything pass.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            kinds: Vec::new(),
            labels: Vec::new(),
            thread: None,
            occurred_from: None,
            occurred_before: None,
            trust_min: None,
        }
    }

    /// Lets only this kind pass, or one given before. Default: any.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Adds a test of a label. Default: none.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, test: Test) -> Self {
        self.labels.push((name.into(), test));
        self
    }

    /// Lets only one thread pass. Default: any.
    #[must_use]
    pub fn thread(mut self, thread: impl Into<String>) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// Lets pass what happened at `from` or later, and before `before`. Default: any time.
    #[must_use]
    pub const fn occurred(mut self, from: Option<Timestamp>, before: Option<Timestamp>) -> Self {
        self.occurred_from = from;
        self.occurred_before = before;
        self
    }

    /// Demands a trust of at least this. Default: any.
    #[must_use]
    pub const fn trust_min(mut self, trust: Trust) -> Self {
        self.trust_min = Some(trust);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.labels.len() > Self::TESTS_MAX {
            return Err(Error::invalid("filter", "at most 16 tests of labels"));
        }
        self.labels.iter().try_for_each(|(name, test)| {
            metadata::check_name(name)?;
            match test {
                Test::OneOf(values) if values.len() > Self::VALUES_MAX => {
                    Err(Error::invalid("filter", "at most 64 values in a test"))
                }
                Test::Is(value) | Test::IsNot(value) => metadata::check_value(value),
                _ => Ok(()),
            }
        })
    }

    /// A label with an index that the filter demands, and the value.
    pub(crate) fn indexed(&self) -> Option<(&'static str, &str)> {
        INDEXED.into_iter().find_map(|indexed| {
            self.labels.iter().find_map(|(name, test)| match test {
                Test::Is(Value::Text(value)) if name == indexed => Some((indexed, value.as_str())),
                _ => None,
            })
        })
    }

    pub(crate) fn passes(&self, facts: &Facts<'_>) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&facts.kind))
            && self.trust_min.is_none_or(|min| facts.trust >= min)
            && self.occurred_from.is_none_or(|t| facts.occurred_at >= t)
            && self.occurred_before.is_none_or(|t| facts.occurred_at < t)
            && (self.thread.is_none() || self.thread.as_deref() == facts.thread)
            && self
                .labels
                .iter()
                .all(|(name, test)| test.holds(facts.metadata.get(name)))
    }
}

/// How much each signal counts, in units of what dialogues show it to be worth. Each weight is
/// between 0 and [`Weights::MAX`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Weights {
    /// Matching words (BM25). Default: 1.
    pub keyword: f32,
    /// Likeness of meaning, of whole texts and of single words where the embedder has vectors for
    /// them. Default: 1.
    pub dense: f32,
    /// The neighbours in the same thread, and how well the whole thread matches. Default: 1.
    pub thread: f32,
    /// Entities named in the query and relations to other good matches. Default: 1.
    pub graph: f32,
    /// Having happened in a month or year that the query names. Default: 1.
    pub time: f32,
    /// Being short, of up to 128 words. Default: 1.
    pub brevity: f32,
    /// Having happened lately. Default: 0.
    pub recency: f32,
    /// The age at which recency has fallen to a half. Default: 30 days.
    pub half_life: Duration,
}

impl Weights {
    /// The largest weight.
    pub const MAX: f32 = 10.0;
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            keyword: 1.0,
            dense: 1.0,
            thread: 1.0,
            graph: 1.0,
            time: 1.0,
            brevity: 1.0,
            recency: 0.0,
            half_life: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

/// A question to a memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Query {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) text: String,
    pub(crate) filter: Filter,
    pub(crate) weights: Weights,
    pub(crate) limit: usize,
    pub(crate) is_with_retired: bool,
    pub(crate) is_with_quarantined: bool,
    pub(crate) as_of: AsOf,
}

impl Query {
    /// The longest text in bytes.
    pub const TEXT_BYTES_MAX: usize = 16 * 1_024;
    /// The most hits.
    pub const LIMIT_MAX: usize = 1_000;
    /// The most namespaces.
    pub const NAMESPACES_MAX: usize = 8;

    /// Searches one namespace: 10 hits, no filter, retired records left out, default weights.
    #[must_use]
    pub fn new(namespace: Namespace, text: impl Into<String>) -> Self {
        Self {
            namespaces: vec![namespace],
            text: text.into(),
            filter: Filter::new(),
            weights: Weights::default(),
            limit: 10,
            is_with_retired: false,
            is_with_quarantined: false,
            as_of: AsOf::now(),
        }
    }

    /// Searches a further namespace of the tenant, at most [`Query::NAMESPACES_MAX`] in all.
    #[must_use]
    pub fn also_in(mut self, namespace: Namespace) -> Self {
        if !self.namespaces.contains(&namespace) {
            self.namespaces.push(namespace);
        }
        self
    }

    /// Sets the filter. Default: everything passes.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the weights of the signals. Default: [`Weights::default`].
    #[must_use]
    pub const fn with_weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    /// Sets the most hits, 1 to [`Query::LIMIT_MAX`]. Default: 10.
    #[must_use]
    pub const fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Asks as of a moment: what held then, by what was known then, shown as it was then.
    /// Default: the present.
    #[must_use]
    pub const fn with_as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = as_of;
        self
    }

    /// Finds records whose validity has ended or not begun, too. Default: only what holds at the
    /// moment asked about.
    #[must_use]
    pub const fn with_retired(mut self) -> Self {
        self.is_with_retired = true;
        self
    }

    /// Finds memories in quarantine, too. Default: they are left out.
    #[must_use]
    pub const fn with_quarantined(mut self) -> Self {
        self.is_with_quarantined = true;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.text.len() > Self::TEXT_BYTES_MAX {
            return Err(Error::invalid("query", "a text of at most 16,384 bytes"));
        }
        if !(1..=Self::LIMIT_MAX).contains(&self.limit) {
            return Err(Error::invalid("query", "a limit of 1 to 1,000"));
        }
        if self.namespaces.len() > Self::NAMESPACES_MAX {
            return Err(Error::invalid("query", "at most 8 namespaces"));
        }
        let w = &self.weights;
        let is_weight = |w: f32| (0.0..=Weights::MAX).contains(&w);
        if ![
            w.keyword, w.dense, w.thread, w.graph, w.time, w.brevity, w.recency,
        ]
        .into_iter()
        .all(is_weight)
        {
            return Err(Error::invalid("query", "weights between 0 and 10"));
        }
        self.filter.check()
    }
}

/// What each signal added to a score. The sum is the score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// By matching words.
    pub keyword: f32,
    /// By likeness of meaning.
    pub dense: f32,
    /// By likeness of single words.
    pub tokens: f32,
    /// By its thread; below 0 for a text that asks.
    pub thread: f32,
    /// By relations.
    pub graph: f32,
    /// By when it happened.
    pub time: f32,
    /// By its length.
    pub brevity: f32,
    /// By its age.
    pub recency: f32,
}

impl Explanation {
    /// Returns the sum.
    #[must_use]
    pub fn total(&self) -> f32 {
        self.keyword
            + self.dense
            + self.tokens
            + self.thread
            + self.graph
            + self.time
            + self.brevity
            + self.recency
    }
}

/// A memory that was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hit {
    /// The memory.
    pub memory: Memory,
    /// Its score, above 0; higher is better. Scores of two queries do not compare.
    pub score: f32,
    /// What the score is made of.
    pub explanation: Explanation,
}
