//! The decision itself: a pure function of what is believed and what is claimed.

use std::collections::BTreeSet;

use agent_core::Timestamp;

use super::{Action, Decision, Reason};
use crate::extract::{Candidate, Claim, normalized};
use crate::memory::{Memory, MemoryId, Trust};
use crate::metadata::Value;

/// Texts whose vectors are at least this alike, and whose words are, say the same.
const COSINE_MIN: f32 = 0.92;
/// The share of common words of texts that say the same, with like vectors.
const JACCARD_MIN: f32 = 0.6;
/// The share without vectors.
const JACCARD_ALONE_MIN: f32 = 0.85;

/// A record as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Belief {
    /// The record.
    pub id: MemoryId,
    /// What it says, normalised.
    pub value: String,
    /// Its text.
    pub text: String,
    /// From when it holds.
    pub from: Timestamp,
    /// Until when.
    pub to: Option<Timestamp>,
    /// When it was last said again, at the earliest from when it holds.
    pub confirmed_at: Timestamp,
    /// How far it is trusted.
    pub trust: Trust,
}

impl Belief {
    /// Describes a belief that holds from a moment on, trust `Normal`; the value is normalised.
    #[must_use]
    pub fn new(id: MemoryId, value: &str, from: Timestamp, to: Option<Timestamp>) -> Self {
        Self {
            id,
            value: normalized(value),
            text: value.to_owned(),
            from,
            to,
            confirmed_at: from,
            trust: Trust::Normal,
        }
    }

    /// Sets when it was last said again. Default: never.
    #[must_use]
    pub const fn confirmed(mut self, at: Timestamp) -> Self {
        self.confirmed_at = at;
        self
    }

    pub(super) fn of(memory: &Memory) -> Self {
        let value = match memory.metadata.get(super::labels::VALUE) {
            Some(Value::Text(value)) => value.as_str(),
            _ => &memory.text,
        };
        let confirmed = match memory.metadata.get(super::labels::CONFIRMED_AT) {
            Some(Value::Integer(ms)) => Timestamp::from_unix_ms(*ms),
            _ => memory.occurred_at,
        };
        Self {
            confirmed_at: confirmed.max(memory.valid_from),
            text: memory.text.clone(),
            trust: memory.provenance.trust,
            ..Self::new(memory.id, value, memory.valid_from, memory.valid_to)
        }
    }

    fn holds_at(&self, at: Timestamp) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

/// A record that is like the claim.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Neighbour {
    /// What it says.
    pub belief: Belief,
    /// The cosine of the two texts' vectors, if there is an embedder.
    pub cosine: Option<f32>,
}

impl Neighbour {
    /// Describes a record that is like the claim.
    #[must_use]
    pub const fn new(belief: Belief, cosine: Option<f32>) -> Self {
        Self { belief, cosine }
    }
}

/// What is known when a decision is made.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Every record of the claim's slot, ended ones too.
    pub slot: Vec<Belief>,
    /// Records like the claim, for claims that fill no slot.
    pub neighbours: Vec<Neighbour>,
}

impl Snapshot {
    /// Describes what is known.
    #[must_use]
    pub const fn new(slot: Vec<Belief>, neighbours: Vec<Neighbour>) -> Self {
        Self { slot, neighbours }
    }

    /// What the slot holds at a moment. Where validities overlap, the one that began later counts.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Option<&Belief> {
        let holding = self.slot.iter().filter(|belief| belief.holds_at(at));
        holding.max_by_key(|belief| (belief.from, belief.id))
    }

    /// The first record of the slot that begins after a moment and holds at some time.
    fn next(&self, after: Timestamp) -> Option<&Belief> {
        let later = self
            .slot
            .iter()
            .filter(|belief| belief.from > after && belief.to.is_none_or(|to| belief.from < to));
        later.min_by_key(|belief| (belief.from, belief.id))
    }
}

/// Decides what becomes of a claim. The same input gives the same decision.
#[must_use]
pub fn decide(snapshot: &Snapshot, candidate: &Candidate) -> Decision {
    let decided = match &candidate.claim {
        Claim::Is { value, .. } => is(snapshot, candidate, &normalized(value)),
        Claim::Note => note(snapshot, candidate),
        Claim::IsNot { value, .. } => {
            let value = value.as_deref().map(normalized);
            is_not(snapshot, candidate, value.as_deref())
        }
        Claim::Replaces { .. } => plain(candidate, Action::Noop(None), Reason::UnknownOld),
    };
    Decision {
        evidence: candidate.evidence.clone(),
        ..decided
    }
}

fn plain(candidate: &Candidate, action: Action, reason: Reason) -> Decision {
    Decision {
        action,
        reason,
        from: candidate.from,
        to: candidate.to,
        resumes_at: None,
        evidence: Vec::new(),
    }
}

fn is(snapshot: &Snapshot, candidate: &Candidate, value: &str) -> Decision {
    let decided = |action, reason| plain(candidate, action, reason);
    if candidate.to.is_some_and(|to| to <= candidate.from) {
        return decided(Action::Noop(None), Reason::Empty);
    }
    // What holds from before it was said is claimed for the moment it was said at, too.
    let is_past = candidate.to.is_some_and(|to| to <= candidate.said_at);
    let claimed_at = if is_past {
        candidate.from
    } else {
        candidate.from.max(candidate.said_at)
    };
    let current = snapshot.at(claimed_at);
    let next = snapshot.next(claimed_at);
    if let Some(current) = current.filter(|current| current.value == value) {
        let extended = Decision {
            to: current.to,
            ..decided(Action::Update(current.id), Reason::KnownLater)
        };
        let is_longer = candidate.from < current.from;
        return if is_longer && snapshot.at(candidate.from).is_none() {
            extended
        } else {
            decided(Action::Noop(Some(current.id)), Reason::Known)
        };
    }
    if let Some(current) = current.filter(|current| candidate.trust < current.trust) {
        return decided(Action::Noop(Some(current.id)), Reason::LessTrusted);
    }
    let is_joined = candidate
        .to
        .is_none_or(|to| next.is_some_and(|next| next.from <= to));
    if let (None, Some(next)) = (current, next)
        && next.value == value
        && is_joined
    {
        return Decision {
            to: next.to,
            ..decided(Action::Update(next.id), Reason::KnownLater)
        };
    }
    // A belief that was said again later holds again from then; what is late lies within it.
    let again = current
        .filter(|current| current.to.is_none_or(|to| current.confirmed_at < to))
        .map(|current| current.confirmed_at)
        .filter(|again| *again > claimed_at);
    let until = match (next.map(|next| next.from), again) {
        (Some(next), Some(again)) => Some(next.min(again)),
        (next, again) => next.or(again),
    };
    let to = match (candidate.to, until) {
        (Some(to), Some(until)) => Some(to.min(until)),
        (to, until) => to.or(until),
    };
    let (action, reason) = match current {
        Some(current) if next.is_some() || again.is_some() => {
            (Action::Supersede(current.id), Reason::Late)
        }
        Some(current) => (Action::Supersede(current.id), Reason::Contradicts),
        None if next.is_some() => (Action::Add, Reason::Late),
        None => (Action::Add, Reason::New),
    };
    Decision {
        to,
        resumes_at: again,
        ..decided(action, reason)
    }
}

fn is_not(snapshot: &Snapshot, candidate: &Candidate, value: Option<&str>) -> Decision {
    let at = candidate.from.max(candidate.said_at);
    let current = snapshot.at(at);
    match current.filter(|current| value.is_none_or(|value| current.value == value)) {
        Some(current) if candidate.trust < current.trust => plain(
            candidate,
            Action::Noop(Some(current.id)),
            Reason::LessTrusted,
        ),
        Some(current) => Decision {
            from: candidate.from.max(current.from),
            ..plain(candidate, Action::Retract(current.id), Reason::Ended)
        },
        None => plain(candidate, Action::Noop(None), Reason::NotBelieved),
    }
}

fn note(snapshot: &Snapshot, candidate: &Candidate) -> Decision {
    if let Some(known) = snapshot.slot.first() {
        return plain(candidate, Action::Noop(Some(known.id)), Reason::Known);
    }
    let words = words(&candidate.text);
    let like = snapshot.neighbours.iter().find(|neighbour| {
        let other = self::words(&neighbour.belief.text);
        let share = jaccard(&words, &other);
        let is_alike = match neighbour.cosine {
            Some(cosine) => cosine >= COSINE_MIN && share >= JACCARD_MIN,
            None => share >= JACCARD_ALONE_MIN,
        };
        is_alike && telling(&words) == telling(&other)
    });
    let Some(like) = like else {
        return plain(candidate, Action::Add, Reason::New);
    };
    let other = self::words(&like.belief.text);
    if other.is_subset(&words) && other.len() < words.len() && candidate.trust >= like.belief.trust
    {
        let from = candidate.from.min(like.belief.from);
        return Decision {
            from,
            to: like.belief.to,
            ..plain(
                candidate,
                Action::Update(like.belief.id),
                Reason::MoreDetail,
            )
        };
    }
    plain(
        candidate,
        Action::Noop(Some(like.belief.id)),
        Reason::NearDuplicate,
    )
}

fn words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    crate::terms::for_each_term(text, |term| {
        words.insert(term.to_owned());
    });
    words
}

/// Words that make two texts say different things however alike the rest is: numbers, denials.
fn telling(words: &BTreeSet<String>) -> Vec<&String> {
    let is_telling = |word: &&String| {
        word.contains(|c: char| c.is_ascii_digit())
            || matches!(
                word.as_str(),
                "not" | "no" | "never" | "without" | "t" | "hate" | "dislik"
            )
    };
    words.iter().filter(is_telling).collect()
}

fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f32 {
    let n_common = a.intersection(b).count();
    let n_all = a.len() + b.len() - n_common;
    if n_all == 0 {
        return 0.0;
    }
    crate::index::from_count(n_common) / crate::index::from_count(n_all)
}
