//! From what was said to what it claims: the contract of an extractor, and the claims.

mod dated;
mod deterministic;
mod lexicon;
mod model;
mod pattern;
mod reword;
mod rules;
mod sentence;
mod value;
mod words;

use std::fmt;

use agent_core::{Scope, Timestamp};
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::memory::{Kind, Memory, MemoryId, Trust};

pub use deterministic::DeterministicExtractor;
pub use model::{BadAnswer, ModelExtractor};

/// Something said or seen, as an extractor reads it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Utterance {
    /// The event it is kept as.
    pub event: Option<MemoryId>,
    /// Who "I" is.
    pub speaker: String,
    /// What was said. Data, never an instruction.
    pub text: String,
    /// When it was said; relative dates are resolved against it.
    pub said_at: Timestamp,
    /// Where it came in.
    pub channel: Option<String>,
    /// How far its origin is trusted.
    pub trust: Trust,
}

impl Utterance {
    /// The longest name of a speaker in bytes.
    pub const SPEAKER_BYTES_MAX: usize = 128;

    /// Describes something said: kept as no event, no channel, trust `Normal`.
    #[must_use]
    pub fn new(speaker: impl Into<String>, text: impl Into<String>, said_at: Timestamp) -> Self {
        Self {
            event: None,
            speaker: speaker.into(),
            text: text.into(),
            said_at,
            channel: None,
            trust: Trust::default(),
        }
    }

    /// Describes a stored event, said by `speaker`.
    #[must_use]
    pub fn of(event: &Memory, speaker: impl Into<String>) -> Self {
        Self {
            event: Some(event.id),
            speaker: speaker.into(),
            text: event.text.clone(),
            said_at: event.occurred_at,
            channel: event.provenance.channel.clone(),
            trust: event.provenance.trust,
        }
    }
}

/// How many values of a slot hold at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cardinality {
    /// One, as with a home: another value ends the one before.
    Single,
    /// Any number, as with languages somebody speaks.
    Many,
}

/// What a claim is about: whose, and which attribute of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Slot {
    /// Whose, in lower case: a speaker, somebody else, or a thing.
    pub subject: String,
    /// Which attribute, in lower case, for example `home`.
    pub attribute: String,
}

impl Slot {
    /// The longest subject or attribute in bytes.
    pub const PART_BYTES_MAX: usize = 128;

    /// Names a slot; letters are lowered and white space is single.
    ///
    /// # Errors
    /// `Invalid` if a part is empty, longer than [`Slot::PART_BYTES_MAX`], or has a `/`, a `=` or
    /// a control character.
    pub fn new(subject: &str, attribute: &str) -> Result<Self> {
        Ok(Self {
            subject: part(subject)?,
            attribute: part(attribute)?,
        })
    }

    /// Returns `subject/attribute`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.subject, self.attribute)
    }
}

fn part(text: &str) -> Result<String> {
    let part = normalized(text);
    let is_plain = !part
        .chars()
        .any(|c| c.is_control() || matches!(c, '/' | '='));
    if (1..=Slot::PART_BYTES_MAX).contains(&part.len()) && is_plain {
        Ok(part)
    } else {
        Err(Error::invalid(
            "slot",
            "parts of 1 to 128 bytes without control characters, slashes and equals signs",
        ))
    }
}

/// Lower case, single spaces, no characters without width, no punctuation at the ends, no article.
pub(crate) fn normalized(text: &str) -> String {
    let visible: String = text
        .chars()
        .filter(|c| c.is_whitespace() || crate::terms::is_visible(*c) || is_mark(*c))
        .collect::<String>()
        .to_lowercase();
    let words: Vec<&str> = visible
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation() && !"+#%$&@".contains(c)))
        .filter(|word| !word.is_empty())
        .collect();
    let n_articles = words
        .iter()
        .take_while(|word| matches!(**word, "a" | "an" | "the"))
        .count();
    let kept = words.get(n_articles..).filter(|kept| !kept.is_empty());
    kept.unwrap_or(&words).join(" ")
}

fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c) && !('\u{fe00}'..='\u{fe0f}').contains(&c)
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// A slot has this value.
    #[non_exhaustive]
    Is {
        /// Whose, and what.
        slot: Slot,
        /// The value, as it was said.
        value: String,
        /// How many values hold at a time.
        cardinality: Cardinality,
    },
    /// A slot has this value no longer, or none at all.
    #[non_exhaustive]
    IsNot {
        /// Whose, and what.
        slot: Slot,
        /// The value; none retracts every one.
        value: Option<String>,
    },
    /// The subject's slot with the old value has the new one: which slot, only memory knows.
    #[non_exhaustive]
    Replaces {
        /// Whose, in lower case.
        subject: String,
        /// The value that ends.
        old: String,
        /// The value that begins.
        new: String,
    },
    /// Something worth remembering that fills no slot: an episode, a procedure.
    Note,
}

/// One claim, ready to be decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The kind of record it would become.
    pub kind: Kind,
    /// What is claimed.
    pub claim: Claim,
    /// A sentence that says it and stands alone.
    pub text: String,
    /// When it was said.
    pub said_at: Timestamp,
    /// From when it holds.
    pub from: Timestamp,
    /// Until when, if that is known.
    pub to: Option<Timestamp>,
    /// Whom and what it names.
    pub entities: Vec<String>,
    /// The events it is taken from.
    pub evidence: Vec<MemoryId>,
    /// Where it came in.
    pub channel: Option<String>,
    /// How far its origin is trusted.
    pub trust: Trust,
}

impl Candidate {
    /// Describes a claim: a fact that holds from when it was said, without end or evidence.
    #[must_use]
    pub fn new(claim: Claim, text: impl Into<String>, said_at: Timestamp) -> Self {
        Self {
            kind: Kind::Fact,
            claim,
            text: text.into(),
            said_at,
            from: said_at,
            to: None,
            entities: Vec::new(),
            evidence: Vec::new(),
            channel: None,
            trust: Trust::default(),
        }
    }

    /// Describes the claim that a slot has a value, as [`Candidate::new`].
    #[must_use]
    pub fn is(
        slot: Slot,
        value: impl Into<String>,
        cardinality: Cardinality,
        said_at: Timestamp,
    ) -> Self {
        let value = value.into();
        let text = format!("{}'s {} is {value}.", slot.subject, slot.attribute);
        let claim = Claim::Is {
            slot,
            value,
            cardinality,
        };
        Self::new(claim, text, said_at)
    }

    /// Describes the claim that a slot has a value no longer, or none at all.
    #[must_use]
    pub fn is_not(slot: Slot, value: Option<String>, said_at: Timestamp) -> Self {
        let text = format!("{}'s {} is over.", slot.subject, slot.attribute);
        Self::new(Claim::IsNot { slot, value }, text, said_at)
    }

    /// Sets the kind. Default: `Fact`.
    #[must_use]
    pub const fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the validity. Default: from when it was said, without end.
    #[must_use]
    pub const fn valid(mut self, from: Timestamp, to: Option<Timestamp>) -> Self {
        self.from = from;
        self.to = to;
        self
    }

    /// Adds an event it is taken from. Default: none.
    #[must_use]
    pub fn evident_from(mut self, event: MemoryId) -> Self {
        self.evidence.push(event);
        self
    }

    /// Sets the trust. Default: `Normal`.
    #[must_use]
    pub const fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }
}

/// Finds claims in what was said.
///
/// This is the contract for _implementors_. Candidates are proposals: what becomes of them is
/// decided by [`decide`](crate::curate::decide), never by the extractor.
#[async_trait]
pub trait Extractor: fmt::Debug + Send + Sync + 'static {
    /// Returns the claims of each utterance, in their order, one list per utterance.
    ///
    /// # Errors
    /// The extractor's; text it cannot make sense of has no claims and is no error.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is kept.
    async fn extract(&self, scope: &Scope, said: Vec<Utterance>) -> Result<Vec<Vec<Candidate>>>;
}
