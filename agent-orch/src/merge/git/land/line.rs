//! The line of a target: its commits and what landed on it, caught up with the reference.

use std::collections::{BTreeMap, HashSet};

use agent_core::TaskId;
use git2::{ErrorCode, Oid};

use super::{START_PREFIX, TARGET_PREFIX};
use crate::merge::error::{Error, Result};
use crate::merge::git::change::{parse_message, trailer_id};
use crate::merge::git::open::failed;
use crate::merge::git::{Inner, from_oid};
use crate::merge::object::ObjectId;

/// The first-parent line of a target since its queue started.
pub(in crate::merge::git) struct Line {
    pub(super) tip: Oid,
    pub(super) commits: HashSet<Oid>,
    pub(super) landed: BTreeMap<TaskId, ObjectId>,
}

impl Inner {
    /// Returns the commit a reference is at.
    pub(super) fn reference(&self, name: &str) -> Result<Option<Oid>> {
        match self.repo.find_reference(name) {
            Ok(reference) => Ok(reference.target()),
            Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
            Err(e) => Err(failed("read a reference")(e)),
        }
    }

    /// Returns the target's line, caught up with the reference, which others may have moved.
    pub(super) fn line(&mut self, target: &str) -> Result<&Line> {
        let not_opened = || Error::NotFound {
            what: "target",
            name: target.to_owned(),
        };
        let tip = self.reference(target)?.ok_or_else(not_opened)?;
        let name = target.strip_prefix(TARGET_PREFIX).unwrap_or(target);
        let start = self
            .reference(&format!("{START_PREFIX}{name}"))?
            .ok_or_else(not_opened)?;
        let mut known = self.lines.remove(target);
        if known.as_ref().is_none_or(|line| line.tip != tip) {
            known = Some(self.follow(tip, start, known)?);
        }
        let line = known.ok_or_else(not_opened)?;
        Ok(self.lines.entry(target.to_owned()).or_insert(line))
    }

    /// Walks first parents from the tip to what is known, or to the start.
    fn follow(&self, tip: Oid, start: Oid, known: Option<Line>) -> Result<Line> {
        let mut fresh = Line {
            tip,
            commits: HashSet::from([start]),
            landed: BTreeMap::new(),
        };
        let mut at = tip;
        while at != start {
            if known.as_ref().is_some_and(|known| known.tip == at) {
                break;
            }
            let commit = self.commit(from_oid(at))?;
            fresh.commits.insert(at);
            if let (2, (_, trailers)) = (
                commit.parent_count(),
                parse_message(commit.message_raw_bytes()),
            ) {
                let task = trailers.iter().find(|(key, _)| key == "Task");
                if let Ok(task) = trailer_id(task.map(|(_, value)| value.as_str())) {
                    fresh.landed.insert(task, from_oid(at));
                }
            }
            match commit.parent_id(0) {
                Ok(parent) => at = parent,
                Err(_root) => break,
            }
        }
        if let Some(known) = known.filter(|known| known.tip == at) {
            fresh.commits.extend(known.commits);
            fresh.landed.extend(known.landed);
        }
        Ok(fresh)
    }
}
