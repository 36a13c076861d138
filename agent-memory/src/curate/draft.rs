//! Candidates as drafts of records, and the keys under which one of several writers wins.

use agent_core::{Digest, IdempotencyKey, Timestamp};

use super::{Action, Belief, Decision, labels};
use crate::error::{Error, Result};
use crate::extract::{Candidate, Cardinality, Claim, Slot, normalized};
use crate::memory::{Draft, Memory, MemoryId};
use crate::metadata::label;

/// The longest value in a slot's key; longer ones are known by their digest.
const VALUE_BYTES_MAX: usize = 256;

/// The key of the slot that a candidate fills: of an attribute with many values, each is a slot of
/// its own; a note's slot is its text.
pub(super) fn slot_key(candidate: &Candidate) -> Option<String> {
    match &candidate.claim {
        Claim::Is {
            slot,
            value,
            cardinality: Cardinality::Many,
        } => Some(value_key(slot, value)),
        Claim::Is { slot, .. } => Some(slot.key()),
        Claim::Note => {
            let text = normalized(&candidate.text);
            Some(format!("note={}", Digest::of_bytes(text.as_bytes())))
        }
        Claim::IsNot { .. } | Claim::Replaces { .. } => None,
    }
}

/// The key of one value of an attribute that has many.
pub(super) fn value_key(slot: &Slot, value: &str) -> String {
    let value = normalized(value);
    if value.len() <= VALUE_BYTES_MAX {
        format!("{}={value}", slot.key())
    } else {
        format!("{}={}", slot.key(), Digest::of_bytes(value.as_bytes()))
    }
}

/// The record that a decision adds.
pub(super) fn draft(candidate: &Candidate, decision: &Decision, old: Option<&Memory>) -> Draft {
    let mut draft = Draft::new(candidate.kind, candidate.text.clone())
        .occurred_at(candidate.said_at)
        .valid(decision.from, decision.to)
        .with_trust(candidate.trust)
        .because(decision.to_string());
    if let Some(key) = slot_key(candidate) {
        draft = draft.with_label(label::SLOT, key);
    }
    if let Claim::Is { slot, value, .. } = &candidate.claim {
        draft = draft
            .with_label(labels::SUBJECT, slot.subject.clone())
            .with_label(labels::ATTRIBUTE, slot.attribute.clone())
            .with_label(labels::VALUE, cut(value, 1_024));
    }
    if let Some(channel) = &candidate.channel {
        draft = draft.via(channel.clone());
    }
    let mut sources = candidate.evidence.clone();
    if let (Action::Update(_), Some(old)) = (decision.action, old) {
        // What says the same rests on the evidence of both.
        sources.extend(&old.provenance.sources);
        let confirmed_at = Belief::of(old).confirmed_at.max(candidate.said_at);
        draft = draft.with_label(labels::CONFIRMED_AT, confirmed_at.as_unix_ms());
    }
    sources.sort_unstable();
    sources.dedup();
    sources.truncate(Draft::SOURCES_MAX);
    draft = sources.into_iter().fold(draft, Draft::derived_from);
    match decision.action {
        Action::Update(id) | Action::Supersede(id) => {
            let draft = draft.superseding(id);
            // That it was said again is a label: what was decided without it must not be written.
            match old {
                Some(old) => draft.if_labeled(old.metadata.clone()),
                None => draft,
            }
        }
        Action::Add | Action::Retract(_) | Action::Noop(_) => draft,
    }
}

/// What a superseded belief goes on as, from when it was said again.
pub(super) fn resumed(old: &Memory, decision: &Decision) -> Option<Draft> {
    let from = decision.resumes_at?;
    let belief = Belief::of(old);
    let mut draft = Draft::new(old.kind, old.text.clone())
        .occurred_at(from)
        .valid(from, old.valid_to)
        .with_trust(old.provenance.trust)
        .because("RESUME: it was said again after what arrived late");
    draft.metadata.clone_from(&old.metadata);
    draft = draft.with_label(labels::CONFIRMED_AT, belief.confirmed_at.as_unix_ms());
    draft.channel.clone_from(&old.provenance.channel);
    draft.thread.clone_from(&old.thread);
    draft.sources.clone_from(&old.provenance.sources);
    Some(draft)
}

fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// The key of a write to a slot in a state: of all who saw that state, one writes.
pub(super) fn state_key(slot: &str, records: &[Memory], n_erased: usize) -> Result<IdempotencyKey> {
    let mut state: Vec<(MemoryId, Option<Timestamp>, Option<MemoryId>)> = records
        .iter()
        .map(|memory| (memory.id, memory.valid_to, memory.superseded_by))
        .collect();
    state.sort_unstable();
    let text = format!("{slot}\n{state:?}\n{n_erased}");
    let digest = Digest::of_bytes(text.as_bytes());
    IdempotencyKey::new(format!("curate:{digest}"))
        .map_err(|_key| Error::corrupt("a digest has no known form"))
}
