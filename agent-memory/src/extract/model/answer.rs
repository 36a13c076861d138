//! A model's answer as hostile input.

use std::collections::BTreeSet;

use agent_core::model::{ChatResponse, FinishReason};
use serde::Deserialize;

use crate::extract::{Candidate, Cardinality, Claim, Slot, Utterance, normalized};
use crate::memory::Kind;
use crate::safety::{find_secret, suspicions};
use crate::terms::for_each_term;
use crate::when::dates;

/// The longest answer in bytes: what [`TOKENS_OUT_MAX`](super::TOKENS_OUT_MAX) tokens can be.
const BYTES_MAX: usize = 32 * 1_024;
/// The most claims in an answer.
const CLAIMS_MAX: usize = 128;
/// The longest value in bytes.
const VALUE_BYTES_MAX: usize = 256;
/// The longest text that becomes a record's whole.
const TEXT_BYTES_MAX: usize = 1_024;

/// How an answer breaks the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAnswer {
    /// The model stopped before the end.
    #[error("the answer is cut off")]
    CutOff,
    /// It is longer than 32 KiB.
    #[error("the answer is too long")]
    TooLong,
    /// It is not one JSON object of the form.
    #[error("the answer is not of the form")]
    Malformed,
    /// It has more than 128 claims.
    #[error("the answer has too many claims")]
    TooMany,
    /// A claim is of an utterance that is not there.
    #[error("a claim is of no utterance")]
    NoUtterance,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    claims: Vec<Claimed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claimed {
    u: usize,
    op: Op,
    subject: Option<String>,
    attribute: Option<String>,
    value: Option<String>,
    #[serde(default)]
    many: bool,
    #[serde(default)]
    kind: Named,
    from: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Op {
    Is,
    IsNot,
    Note,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Named {
    #[default]
    Fact,
    Preference,
    Procedure,
}

/// Reads the claims per utterance. Those that cannot be checked are left out: a value or thing
/// whose words were not said, a slot that is no name, instructions, secrets.
pub(super) fn read(
    answer: &ChatResponse,
    said: &[Utterance],
) -> Result<Vec<Vec<Candidate>>, BadAnswer> {
    if answer.finish != FinishReason::Stop {
        return Err(BadAnswer::CutOff);
    }
    let text = answer.message.text.trim();
    if text.len() > BYTES_MAX {
        return Err(BadAnswer::TooLong);
    }
    // Small models put a fence around JSON however they are told.
    let text = text
        .strip_prefix("```json")
        .or(text.strip_prefix("```"))
        .unwrap_or(text);
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    let answer: Answer = serde_json::from_str(text).map_err(|_json| BadAnswer::Malformed)?;
    if answer.claims.len() > CLAIMS_MAX {
        return Err(BadAnswer::TooMany);
    }
    let mut found: Vec<Vec<Candidate>> = vec![Vec::new(); said.len()];
    for claimed in &answer.claims {
        let place = claimed.u.checked_sub(1).ok_or(BadAnswer::NoUtterance)?;
        let (Some(said), Some(found)) = (said.get(place), found.get_mut(place)) else {
            return Err(BadAnswer::NoUtterance);
        };
        if let Some(candidate) = checked(claimed, said)
            && !found.contains(&candidate)
        {
            found.push(candidate);
        }
    }
    Ok(found)
}

fn checked(claimed: &Claimed, said: &Utterance) -> Option<Candidate> {
    let claim = match claimed.op {
        Op::Note => Claim::Note,
        Op::Is | Op::IsNot => slot_claim(claimed, said)?,
    };
    let text = text_of(&claim, said)?;
    let mut candidate = Candidate::new(claim, text, said.said_at).of_kind(match claimed.kind {
        Named::Fact => Kind::Fact,
        Named::Preference => Kind::Preference,
        Named::Procedure => Kind::Procedure,
    });
    if let Some(date) = &claimed.from {
        let read = dates(&[date.as_str()], said.said_at);
        candidate.from = read.first()?.interval.from;
    }
    candidate.entities = vec![said.speaker.clone()];
    candidate.evidence = said.event.into_iter().collect();
    candidate.channel.clone_from(&said.channel);
    candidate.trust = said.trust;
    Some(candidate)
}

fn slot_claim(claimed: &Claimed, said: &Utterance) -> Option<Claim> {
    let attribute = claimed.attribute.as_deref()?;
    let subject = match claimed.subject.as_deref()?.trim() {
        "I" | "i" | "me" | "speaker" | "user" => said.speaker.as_str(),
        subject => subject,
    };
    let value = claimed.value.as_deref().map(str::trim);
    let is_view = claimed.kind == Named::Preference;
    let slot = if is_view {
        let about = normalized(attribute);
        let about = about.strip_prefix("view of ").unwrap_or(&about);
        let is_known = matches!(value, None | Some("likes" | "dislikes"));
        if !is_known || !is_said(about, &said.text) {
            return None;
        }
        Slot::new(subject, &format!("view of {about}")).ok()?
    } else {
        Slot::new(subject, attribute).ok()?
    };
    let is_grounded = is_view
        || value.is_none_or(|value| {
            !value.is_empty() && value.len() <= VALUE_BYTES_MAX && is_said(value, &said.text)
        });
    let is_subject_said = normalized(subject) == normalized(&said.speaker)
        || is_said(subject, &format!("{} {}", said.speaker, said.text));
    let all = format!("{subject} {attribute} {}", value.unwrap_or_default());
    if !is_grounded
        || !is_subject_said
        || !suspicions(&all).is_empty()
        || find_secret(&all).is_some()
    {
        return None;
    }
    match claimed.op {
        Op::IsNot => Some(Claim::IsNot {
            slot,
            value: value.map(str::to_owned),
        }),
        Op::Is => Some(Claim::Is {
            slot,
            value: value?.to_owned(),
            cardinality: if claimed.many && !is_view {
                Cardinality::Many
            } else {
                Cardinality::Single
            },
        }),
        Op::Note => None,
    }
}

/// What the record says: the utterance itself if it is short, never the model's words.
fn text_of(claim: &Claim, said: &Utterance) -> Option<String> {
    if said.text.len() <= TEXT_BYTES_MAX {
        return Some(format!("{}: {}", said.speaker, said.text.trim()));
    }
    match claim {
        Claim::Is { slot, value, .. } => {
            Some(format!("{}'s {} is {value}.", slot.subject, slot.attribute))
        }
        Claim::IsNot { slot, .. } => {
            Some(format!("{}'s {} is over.", slot.subject, slot.attribute))
        }
        Claim::Note | Claim::Replaces { .. } => None,
    }
}

/// Whether all words of a phrase, stemmed, stand in a text.
fn is_said(phrase: &str, text: &str) -> bool {
    let mut said = BTreeSet::new();
    for_each_term(text, |term| {
        said.insert(term.to_owned());
    });
    let (mut n_words, mut is_all) = (0, true);
    for_each_term(phrase, |term| {
        n_words += 1;
        is_all &= said.contains(term);
    });
    n_words > 0 && is_all
}
