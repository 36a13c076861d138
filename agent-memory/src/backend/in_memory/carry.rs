//! Giving everything away and taking it back.

use std::collections::BTreeSet;
use std::ops::Bound;

use agent_core::{Digest, Scope, Timestamp};
use async_trait::async_trait;

use super::InMemory;
use super::state::State;
use crate::error::Result;
use crate::index::Quantized;
use crate::memory::MemoryId;
use crate::namespace::{Namespace, tenant};
use crate::portable::{
    Cursor, Fate, Here, Item, Kept, Key, Part, Phase, Portable, Taken, Tombstone, Vector, buried,
    plan, prepared,
};
use crate::relation::{Node, RelationVersion};

#[async_trait]
impl Portable for InMemory {
    fn space(&self) -> (String, usize) {
        let embedder = &self.embedder;
        (embedder.space().to_owned(), embedder.dimensions())
    }

    async fn namespaces(&self, scope: &Scope) -> Result<Vec<Namespace>> {
        let tenant = tenant(scope)?;
        let partitions = self.partitions.read();
        let of_tenant = partitions.keys().filter(|(of, _)| *of == tenant);
        Ok(of_tenant.map(|(_, at)| at.clone()).collect())
    }

    async fn give(&self, scope: &Scope, at: Namespace, from: Option<Cursor>) -> Result<Part> {
        let place = self.check(scope, at)?;
        let partitions = self.partitions.read();
        let nothing = Part {
            items: Vec::new(),
            next: None,
        };
        Ok(partitions
            .get(&place)
            .map_or(nothing, |state| state.give(from, self.embedder.space())))
    }

    async fn take(&self, scope: &Scope, at: Namespace, items: Vec<Item>) -> Result<Taken> {
        let place = self.check(scope, at.clone())?;
        let items = prepared(&self.env, self.embedder.as_ref(), scope, &at, items).await?;
        let mut partitions = self.partitions.write();
        let state = partitions.entry(place).or_insert_with(|| self.empty());
        let fates = plan(&items, |id| Ok(state.here(id)))?;
        let mut taken = Taken::default();
        for ((item, vector), fate) in items.into_iter().zip(fates) {
            let is_new = match (fate, item) {
                (Fate::LeaveOut, _) => false,
                (Fate::Bury, Item::Memory(kept)) => {
                    state.bury(buried(scope, &kept, self.env.clock.now()));
                    false
                }
                (_, Item::Memory(kept)) => {
                    state.keep(*kept, vector.as_ref());
                    true
                }
                (_, Item::Erased(tombstone)) => {
                    state.bury(tombstone);
                    true
                }
                (_, Item::Relation(version)) => state.take_relation(&version),
            };
            taken.n_new += usize::from(is_new);
            taken.n_left_out += usize::from(!is_new);
        }
        Ok(taken)
    }
}

impl State {
    fn here(&self, id: MemoryId) -> Here {
        if self.memories.contains_key(&id) {
            Here::Memory
        } else if self.changes.contains_key(&id) {
            Here::Erased
        } else {
            Here::Unknown
        }
    }

    fn give(&self, from: Option<Cursor>, space: &str) -> Part {
        let cursor = from.unwrap_or_else(|| Cursor::start(self.last_seq));
        let range = (Bound::Excluded(cursor.after), Bound::Included(cursor.until));
        let found: Vec<(i64, Option<Item>)> = match cursor.phase {
            Phase::Memories => {
                let next = self.order.range(range).take(Item::PART_MAX);
                next.map(|(seq, id)| (*seq, self.kept(*id, space)))
                    .collect()
            }
            Phase::Erased => {
                let next = self.erased.range(range).take(Item::PART_MAX);
                next.map(|(seq, id)| (*seq, self.tombstone(*id))).collect()
            }
            Phase::Relations => {
                let next = self.index.versions(cursor.after, Item::PART_MAX);
                next.into_iter()
                    .map(|(n, version)| (n, self.within(version, cursor.until)))
                    .collect()
            }
        };
        let is_full = found.len() == Item::PART_MAX;
        Part {
            next: cursor.behind(found.last().map(|(seq, _)| *seq), is_full),
            items: found.into_iter().filter_map(|(_, item)| item).collect(),
        }
    }

    /// A relation unless one of its memories was added later.
    fn within(&self, version: RelationVersion, until: i64) -> Option<Item> {
        let is_early = |node: &Node| match node {
            Node::Memory(id) => self.index.seq_of(*id).is_some_and(|seq| seq <= until),
            Node::Entity(_) => true,
        };
        let ends = [&version.relation.from, &version.relation.to];
        let is_within = ends.into_iter().all(is_early);
        is_within.then_some(Item::Relation(version))
    }

    fn kept(&self, id: MemoryId, space: &str) -> Option<Item> {
        let keys = self.keys_of(id).filter_map(|digest| {
            let content = self.keys.get(&digest)?.1?;
            Some(Key { digest, content })
        });
        Some(Item::Memory(Box::new(Kept {
            memory: self.memories.get(&id)?.clone(),
            changes: self.changes.get(&id)?.clone(),
            keys: keys.collect(),
            vector: self.vectors.get(&id).map(|vector| Vector {
                space: space.to_owned(),
                bytes: vector.bytes.clone(),
                scale: vector.scale,
            }),
        })))
    }

    fn tombstone(&self, id: MemoryId) -> Option<Item> {
        Some(Item::Erased(Tombstone {
            id,
            changes: self.changes.get(&id)?.clone(),
            keys: self.keys_of(id).collect(),
        }))
    }

    /// The keys of a memory, in their order.
    fn keys_of(&self, id: MemoryId) -> impl Iterator<Item = Digest> {
        let keys: BTreeSet<Digest> = self
            .keys_of
            .get(&id)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        keys.into_iter()
    }

    fn keep(&mut self, kept: Kept, vector: Option<&Quantized>) {
        let id = kept.memory.id;
        for key in kept.keys {
            self.learn(key.digest, id, Some(key.content));
        }
        self.place(kept.memory, vector);
        let first: Option<Timestamp> = kept.changes.first().and_then(|first| first.valid_to);
        for change in kept.changes.iter().filter(|change| change.verb.ends()) {
            self.index.retire(id, first, change.valid_to, change.at);
        }
        self.changes.insert(id, kept.changes);
    }

    fn bury(&mut self, tombstone: Tombstone) {
        for digest in tombstone.keys {
            self.learn(digest, tombstone.id, None);
        }
        self.last_seq += 1;
        self.erased.insert(self.last_seq, tombstone.id);
        self.changes.insert(tombstone.id, tombstone.changes);
    }

    /// Adds a version unless it, or another that is known at present in its place, is here.
    fn take_relation(&mut self, version: &RelationVersion) -> bool {
        let is_new = !self.index.has_version(version);
        if is_new {
            self.index.relate(version);
        }
        is_new
    }
}
