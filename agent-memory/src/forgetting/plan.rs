//! The plan as a pure function of memories, a policy and a moment.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::Timestamp;

use super::summary::summarize;
use super::{Cause, Consolidation, Doomed, ForgetPlan, Policy, Protection, Spared, labels};
use crate::memory::{Draft, Kind, Memory, MemoryId};
use crate::metadata::{Value, label};
use crate::namespace::Namespace;

/// Uses beyond this make a memory no more durable.
const USES_MAX: i64 = 1_000;

/// Makes the plan; `memories` are all of the namespace.
pub(super) fn plan(
    policy: &Policy,
    namespace: Namespace,
    memories: &[Memory],
    now: Timestamp,
) -> ForgetPlan {
    let planner = Planner::new(policy, memories, now);
    let mut causes = BTreeMap::new();
    let mut spared = BTreeMap::new();
    planner.expire(&mut causes, &mut spared);
    planner.fade(&mut causes, &mut spared);
    planner.crowd(&mut causes, &mut spared);
    let consolidations = planner.consolidations(&causes);
    let doomed = causes.into_iter().map(|(id, cause)| Doomed {
        id,
        cause,
        uses: planner.by_id.get(&id).map_or(0, |memory| uses(memory)),
    });
    ForgetPlan {
        namespace,
        made_at: now,
        doomed: doomed.collect(),
        spared: spared
            .into_iter()
            .map(|(id, by)| Spared { id, by })
            .collect(),
        consolidations,
    }
}

type Causes = BTreeMap<MemoryId, Cause>;
type SparedBy = BTreeMap<MemoryId, Protection>;

struct Planner<'a> {
    policy: &'a Policy,
    by_id: BTreeMap<MemoryId, &'a Memory>,
    /// What is derived directly from a memory.
    derived: BTreeMap<MemoryId, Vec<MemoryId>>,
    now: Timestamp,
}

impl<'a> Planner<'a> {
    fn new(policy: &'a Policy, memories: &'a [Memory], now: Timestamp) -> Self {
        let mut derived: BTreeMap<MemoryId, Vec<MemoryId>> = BTreeMap::new();
        for memory in memories {
            for source in &memory.provenance.sources {
                derived.entry(*source).or_default().push(memory.id);
            }
        }
        Self {
            policy,
            by_id: memories.iter().map(|memory| (memory.id, memory)).collect(),
            derived,
            now,
        }
    }

    /// A memory and all that is derived from it, directly or not.
    fn closure(&self, id: MemoryId) -> BTreeSet<MemoryId> {
        let (mut all, mut pending) = (BTreeSet::new(), vec![id]);
        while let Some(id) = pending.pop() {
            if self.by_id.contains_key(&id) && all.insert(id) {
                pending.extend(self.derived.get(&id).into_iter().flatten());
            }
        }
        all
    }

    /// What keeps a memory from going: its own labels, or those of what is derived from it.
    fn protection(&self, id: MemoryId, closure: &BTreeSet<MemoryId>) -> Option<Protection> {
        let labels = |id: &MemoryId| self.by_id.get(id).map(|memory| &memory.metadata);
        let is_set = |id: &MemoryId, name| labels(id).is_some_and(|l| label::is_set(l, name));
        if is_set(&id, label::HOLD) {
            return Some(Protection::Held);
        }
        if is_set(&id, label::PIN) {
            return Some(Protection::Pinned);
        }
        let kept = closure
            .iter()
            .find(|id| is_set(id, label::HOLD) || is_set(id, label::PIN));
        kept.map(|id| Protection::Supports(*id))
    }

    fn expire(&self, causes: &mut Causes, spared: &mut SparedBy) {
        for (id, memory) in &self.by_id {
            let ttl = self.policy.ttl.get(&memory.kind);
            if ttl.is_none_or(|ttl| self.now.since(memory.occurred_at) <= *ttl) {
                continue;
            }
            let closure = self.closure(*id);
            if let Some(protection) = self.protection(*id, &closure) {
                spared.insert(*id, protection);
                continue;
            }
            for derived in closure {
                causes.entry(derived).or_insert(Cause::DerivedFrom(*id));
            }
            causes.insert(*id, Cause::Expired);
        }
    }

    fn fade(&self, causes: &mut Causes, spared: &mut SparedBy) {
        let faded = self.by_id.values().filter_map(|memory| {
            let strength = self.strength(memory)?;
            (strength < self.policy.strength_min).then_some((memory.id, Cause::Faded(strength)))
        });
        self.add_unsupporting(faded.collect(), causes, spared);
    }

    fn crowd(&self, causes: &mut Causes, spared: &mut SparedBy) {
        let Some(capacity) = self.policy.capacity else {
            return;
        };
        let counted = |memory: &&&Memory| {
            !causes.contains_key(&memory.id) && !label::is_set(&memory.metadata, label::ARCHIVED)
        };
        let mut left: Vec<(f64, MemoryId)> = self
            .by_id
            .values()
            .filter(counted)
            .map(|memory| (self.strength(memory).unwrap_or(1.0), memory.id))
            .collect();
        left.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut n_over = left.len().saturating_sub(capacity);
        for (strength, id) in left {
            if n_over == 0 {
                break;
            }
            let n_before = causes.len();
            self.add_unsupporting(vec![(id, Cause::Crowded(strength))], causes, spared);
            n_over = n_over.saturating_sub(causes.len() - n_before);
        }
    }

    /// Adds what goes by its own weakness. What supports a memory that stays, stays.
    fn add_unsupporting(
        &self,
        weak: Vec<(MemoryId, Cause)>,
        causes: &mut Causes,
        spared: &mut SparedBy,
    ) {
        let mut going: Causes = weak
            .into_iter()
            .filter(|(id, _)| !causes.contains_key(id))
            .collect();
        loop {
            let stays = going.keys().find_map(|id| {
                let closure = self.closure(*id);
                let protection = self.protection(*id, &closure).or_else(|| {
                    let stays =
                        |id: &&MemoryId| !going.contains_key(*id) && !causes.contains_key(*id);
                    closure
                        .iter()
                        .find(stays)
                        .map(|id| Protection::Supports(*id))
                });
                Some((*id, protection?))
            });
            let Some((id, protection)) = stays else {
                break;
            };
            going.remove(&id);
            spared.insert(id, protection);
        }
        causes.extend(going);
    }

    /// The strength of a memory that fades: its importance, halved for every half-life since it
    /// was last used; each use adds a half-life's length to the half-life.
    fn strength(&self, memory: &Memory) -> Option<f64> {
        let half_life = self.policy.half_life.get(&memory.kind)?;
        let number = |name| match memory.metadata.get(name) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        };
        let used_at = number(labels::USED_AT).map(Timestamp::from_unix_ms);
        let since = used_at
            .unwrap_or(memory.recorded_at)
            .max(memory.occurred_at);
        let importance = number(labels::IMPORTANCE).unwrap_or(50).clamp(0, 100);
        let small = |n: i64| f64::from(u32::try_from(n).unwrap_or(0));
        let longer = half_life.as_secs_f64() * (1.0 + small(uses(memory)));
        let n_halvings = self.now.since(since).as_secs_f64() / longer;
        Some(small(importance) / 50.0 * (-n_halvings).exp2())
    }

    fn consolidations(&self, causes: &Causes) -> Vec<Consolidation> {
        let Some(after) = self.policy.consolidate_after else {
            return Vec::new();
        };
        let mut threads: BTreeMap<&str, Vec<&Memory>> = BTreeMap::new();
        for memory in self.by_id.values() {
            let is_old = self.now.since(memory.occurred_at) > after;
            let is_hidden = [label::ARCHIVED, label::QUARANTINE, label::PIN]
                .iter()
                .any(|name| label::is_set(&memory.metadata, name));
            let goes = causes.contains_key(&memory.id);
            if let Some(thread) = memory.thread.as_deref()
                && memory.kind == Kind::Event
                && is_old
                && !is_hidden
                && !goes
            {
                threads.entry(thread).or_default().push(memory);
            }
        }
        let mut found = Vec::new();
        for (thread, mut episodes) in threads {
            episodes.sort_by_key(|memory| (memory.occurred_at, memory.id));
            for group in episodes.chunks(Draft::SOURCES_MAX) {
                if group.len() >= self.policy.episodes_min {
                    found.extend(summarize(thread, group));
                }
            }
        }
        found
    }
}

fn uses(memory: &Memory) -> i64 {
    match memory.metadata.get(labels::USES) {
        Some(Value::Integer(uses)) => (*uses).clamp(0, USES_MAX),
        _ => 0,
    }
}
