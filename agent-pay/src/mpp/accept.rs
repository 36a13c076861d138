//! `Accept-Payment`: which methods and intents a client can use, and which it would rather.

use super::challenge::Challenge;
use crate::error::{Error, Result};

/// The ranges of a client, `method/intent` with weights; `*` stands for any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptPayment {
    ranges: Vec<Range>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    method: String,
    intent: String,
    /// Thousandths.
    weight: u16,
}

impl AcceptPayment {
    /// The most ranges of one field.
    pub const RANGES_MAX: usize = 64;
    /// The longest field in bytes.
    pub const FIELD_BYTES_MAX: usize = 4_096;

    /// Reads a field.
    ///
    /// # Errors
    /// `Invalid` for a malformed or overlong field, or too many ranges. A server may then do as if
    /// there were none.
    pub fn parse(field: &str) -> Result<Self> {
        let malformed = || Error::invalid("accept-payment", "not a list of method/intent;q=weight");
        if field.len() > Self::FIELD_BYTES_MAX {
            return Err(malformed());
        }
        let mut ranges = Vec::new();
        for part in field.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            if ranges.len() == Self::RANGES_MAX {
                return Err(malformed());
            }
            ranges.push(range(part).ok_or_else(malformed)?);
        }
        Ok(Self { ranges })
    }

    /// Keeps the challenges a client can use, the best first. All of them if it can use none.
    #[must_use]
    pub fn choose(&self, challenges: Vec<Challenge>) -> Vec<Challenge> {
        let mut weighed: Vec<(u16, Challenge)> = challenges
            .iter()
            .map(|challenge| (self.weight(challenge), challenge.clone()))
            .filter(|(weight, _)| *weight > 0)
            .collect();
        if weighed.is_empty() {
            return challenges;
        }
        // Stable: the server's order decides between equals.
        weighed.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        weighed
            .into_iter()
            .map(|(_, challenge)| challenge)
            .collect()
    }

    /// The weight of the most specific range that fits; nothing if none does.
    fn weight(&self, challenge: &Challenge) -> u16 {
        let fits = |range: &&Range| {
            (range.method == "*" || range.method == challenge.method)
                && (range.intent == "*" || range.intent == challenge.intent)
        };
        let specific = |range: &&Range| (range.method != "*", range.intent != "*");
        let best = self.ranges.iter().filter(fits).max_by_key(specific);
        best.map_or(0, |range| range.weight)
    }
}

fn range(text: &str) -> Option<Range> {
    let (range, weight) = text.split_once(';').unwrap_or((text, "q=1"));
    let (method, intent) = range.trim().split_once('/')?;
    let is_method = !method.is_empty() && method.bytes().all(|b| b.is_ascii_lowercase());
    let is_intent = !intent.is_empty()
        && intent
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !(method == "*" || is_method) || !(intent == "*" || is_intent) {
        return None;
    }
    let weight = weight.trim();
    let weight = weight.strip_prefix("q=").or(weight.strip_prefix("Q="))?;
    Some(Range {
        method: method.to_owned(),
        intent: intent.to_owned(),
        weight: thousandths(weight)?,
    })
}

/// Reads a weight from 0 to 1 with at most three decimals (RFC 9110, section 12.4.2).
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" if is_number => Some(fraction),
        "1" if is_number && fraction == 0 => Some(1_000),
        _ => None,
    }
}
