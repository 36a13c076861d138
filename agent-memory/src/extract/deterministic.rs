//! The extractor that needs no model.

use agent_core::Scope;
use async_trait::async_trait;

use super::sentence::Reader;
use super::words::sentences;
use super::{Candidate, Extractor, Utterance};
use crate::error::Result;

/// The most claims that are taken from one utterance: a chat turn makes a few, and more is a
/// document or an attack.
const CLAIMS_MAX: usize = 64;

/// Finds claims by rules of English: names, homes, work, possessions and other facts that a slot
/// can hold, preferences, changes, retractions, dated episodes, procedures.
///
/// It is blind to what the rules do not name, and says nothing about other languages. The same
/// text gives the same claims. Questions, conditions, wishes, and what stands in double quotes make
/// no claims. At most 64 claims are taken from an utterance, and at most 2,000 sentences of up to
/// 120 words are looked at.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DeterministicExtractor;

impl DeterministicExtractor {
    /// Creates the extractor.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// Returns the claims of one utterance.
    #[must_use]
    pub fn read(&self, said: &Utterance) -> Vec<Candidate> {
        let Some(reader) = Reader::new(said) else {
            return Vec::new();
        };
        let mut found: Vec<Candidate> = Vec::new();
        for sentence in sentences(&said.text) {
            for candidate in reader.read(&sentence) {
                if found.len() < CLAIMS_MAX
                    && !found
                        .iter()
                        .any(|f| f.claim == candidate.claim && f.text == candidate.text)
                {
                    found.push(candidate);
                }
            }
        }
        found
    }
}

#[async_trait]
impl Extractor for DeterministicExtractor {
    async fn extract(&self, _scope: &Scope, said: Vec<Utterance>) -> Result<Vec<Vec<Candidate>>> {
        Ok(said.iter().map(|said| self.read(said)).collect())
    }
}
