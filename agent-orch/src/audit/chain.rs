//! Checking a chain record by record, wherever the records come from.

use std::collections::{BTreeMap, VecDeque};

use agent_core::Digest;
use agent_identity::DidKey;

use super::erase::{ErasePayloads, Missing};
use super::{Audit, Record, Root, genesis};
use crate::error::{Error, Result};

/// How a chain is to be verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    signers: Vec<DidKey>,
    after: Option<Root>,
    including: Option<Root>,
}

impl Verification {
    /// Verifies everything from the first record on; roots must be signed by whom they name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts one more signer: roots of all others are forged. Default: whoever a root names,
    /// which does not stop a forger with a key of their own.
    #[must_use]
    pub fn trusting(mut self, signer: DidKey) -> Self {
        self.signers.push(signer);
        self
    }

    /// Verifies only what follows a root the caller trusts, and that its record is still there.
    /// Default: everything.
    #[must_use]
    pub fn after(mut self, root: Root) -> Self {
        self.after = Some(root);
        self
    }

    /// Expects a root that was kept elsewhere, the newest there is: a chain that was cut off before
    /// it, with its own copy, is found. Default: only the roots that lie with the chain count.
    #[must_use]
    pub fn including(mut self, root: Root) -> Self {
        self.including = Some(root);
        self
    }

    /// Returns the root verification starts from.
    #[must_use]
    pub const fn start(&self) -> Option<&Root> {
        self.after.as_ref()
    }

    fn check(&self, root: &Root, at: u64) -> Result<()> {
        if root.check().is_err() {
            return broken(at, "has a root with a wrong signature");
        }
        if !self.signers.is_empty() && !self.signers.contains(&root.signer) {
            return broken(at, "has a root signed by somebody who is not trusted");
        }
        Ok(())
    }
}

pub(crate) fn broken<T>(seq: u64, found: &'static str) -> Result<T> {
    Err(Error::AuditBroken { seq, found })
}

/// Takes the records of a chain in order and names the first thing that is wrong. It remembers the
/// roots, the latest hashes and, until their erasure comes by, the records whose payload is gone.
#[derive(Debug)]
pub(crate) struct Checker {
    how: Verification,
    seq: u64,
    previous: Digest,
    missing: BTreeMap<u64, Missing>,
    recent: VecDeque<(u64, Digest)>,
    roots: BTreeMap<u64, Root>,
}

impl Checker {
    /// Starts at the first record, or behind the root that is trusted.
    pub(crate) fn new(how: Verification) -> Result<Self> {
        let (seq, previous) = match &how.after {
            Some(root) => {
                how.check(root, root.seq)?;
                (root.seq, root.head)
            }
            None => (0, genesis()),
        };
        Ok(Self {
            how,
            seq,
            previous,
            missing: BTreeMap::new(),
            recent: VecDeque::from([(seq, previous)]),
            roots: BTreeMap::new(),
        })
    }

    /// Returns the last record that was taken and its hash.
    pub(crate) const fn last(&self) -> (u64, Digest) {
        (self.seq, self.previous)
    }

    /// Returns the roots so far, by the record that takes note of each.
    pub(crate) const fn roots(&self) -> &BTreeMap<u64, Root> {
        &self.roots
    }

    /// Returns the error that the next record is broken.
    pub(crate) fn broken_next<T>(&self, found: &'static str) -> Result<T> {
        broken(self.seq.saturating_add(1), found)
    }

    /// Takes the next record.
    pub(crate) fn record(&mut self, record: &Record) -> Result<()> {
        let expected = self.seq.saturating_add(1);
        if record.seq != expected {
            return broken(expected, "is missing");
        }
        let is_next = record.previous == self.previous;
        if !is_next || record.chained(&self.previous) != Some(record.hash) {
            return broken(expected, "was altered or moved");
        }
        match &record.body {
            Some(body) if Digest::of_bytes(body.as_bytes()) != record.payload_hash => {
                return broken(expected, "has an altered payload");
            }
            Some(body) => self.meaning(record, body)?,
            None if ErasePayloads::is_kept(&record.kind) => {
                return broken(expected, "lost its payload");
            }
            None => {
                self.missing.insert(expected, Missing::of(record));
            }
        }
        (self.seq, self.previous) = (record.seq, record.hash);
        self.recent.push_back((record.seq, record.hash));
        if self.recent.len() > Root::LAG_MAX {
            self.recent.pop_front();
        }
        self.expect_included()
    }

    /// Takes note of what a record says about the chain itself.
    fn meaning(&mut self, record: &Record, body: &str) -> Result<()> {
        match record.kind.as_str() {
            ErasePayloads::KIND => {
                let Ok(what) = serde_json::from_str::<ErasePayloads>(body) else {
                    return broken(record.seq, "is an erasure that cannot be read");
                };
                self.missing.retain(|_, missing| !what.covers(missing));
                Ok(())
            }
            Root::KIND => {
                let Ok(root) = serde_json::from_str::<Root>(body) else {
                    return broken(record.seq, "is a root that cannot be read");
                };
                self.root(record.seq, root)
            }
            _ => Ok(()),
        }
    }

    /// Takes a root that a record takes note of.
    fn root(&mut self, noted: u64, root: Root) -> Result<()> {
        self.how.check(&root, noted)?;
        let is_before_start = self.how.after.as_ref().is_some_and(|a| root.seq < a.seq);
        let is_known = self.recent.contains(&(root.seq, root.head));
        if !is_known && !is_before_start {
            return broken(noted, "has a root of another chain");
        }
        self.roots.insert(noted, root);
        Ok(())
    }

    fn expect_included(&self) -> Result<()> {
        match &self.how.including {
            Some(root) if root.seq == self.seq && root.head != self.previous => {
                broken(self.seq, "is not the one a signed root stands for")
            }
            _ => Ok(()),
        }
    }

    /// Ends the chain.
    pub(crate) fn finish(self) -> Result<Audit> {
        if let Some(root) = &self.how.including {
            self.how.check(root, root.seq)?;
            if root.seq > self.seq {
                return self.broken_next("was cut off: a signed root knows it");
            }
        }
        if let Some(seq) = self.missing.keys().next() {
            return broken(*seq, "lost its payload without an erasure");
        }
        let n_roots = u64::try_from(self.roots.len()).unwrap_or(u64::MAX);
        let start = self.how.after.as_ref().map_or(0, |root| root.seq);
        let signed = self
            .roots
            .values()
            .map(|root| root.seq)
            .fold(start, u64::max);
        Ok(Audit {
            roots: n_roots,
            signed,
            ..Audit::new(self.seq, self.previous)
        })
    }
}
