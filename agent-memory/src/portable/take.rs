//! What is done to items before a store writes them: checking, embedding, deciding.

use std::collections::HashMap;

use agent_core::{Embedder, Env, Scope};

use super::{Item, Kept, Tombstone, Vector};
use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::memory::{Change, Draft, MemoryId, Verb};
use crate::namespace::Namespace;
use crate::prepare::{self, check_reason, embed};
use crate::relation::{Node, RelationVersion};
use crate::terms::is_visible;

impl Item {
    /// Checks what can be checked without a store.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self, at: &Namespace) -> Result<()> {
        match self {
            Self::Memory(kept) => kept.check(at),
            Self::Erased(tombstone) => tombstone.check(),
            Self::Relation(version) => check_version(version),
        }
    }
}

impl Kept {
    fn check(&self, at: &Namespace) -> Result<()> {
        let memory = &self.memory;
        if memory.namespace != *at {
            return Err(Error::invalid("item", "it is of another namespace"));
        }
        if !memory.text.chars().any(is_visible) || memory.text.len() > Draft::TEXT_BYTES_MAX {
            return Err(Error::invalid(
                "text",
                "visible text of at most 65,536 bytes",
            ));
        }
        prepare::check_parts(
            &memory.metadata,
            [
                memory.thread.as_deref(),
                memory.provenance.channel.as_deref(),
            ],
            &memory.provenance.sources,
        )?;
        if memory.valid_to.is_some_and(|to| to < memory.valid_from) {
            return Err(Error::invalid("validity", "it ends after it begins"));
        }
        if memory.provenance.sources.contains(&memory.id) {
            return Err(Error::invalid("sources", "a memory is no source of itself"));
        }
        check_history(&self.changes)?;
        let is_of_one_piece = self.changes.last().map(|last| last.valid_to)
            == Some(memory.valid_to)
            && self.changes.first().map(|first| first.at) == Some(memory.recorded_at)
            && !self
                .changes
                .iter()
                .any(|change| change.verb == Verb::Erased)
            && successor(&self.changes) == memory.superseded_by;
        if !is_of_one_piece {
            return Err(Error::invalid("history", "it does not fit the memory"));
        }
        if !memory.kind.is_record() && memory.superseded_by.is_some() {
            return Err(Error::invalid("history", "an event is immutable"));
        }
        if self.keys.len() > Item::KEYS_MAX {
            return Err(Error::invalid("keys", "at most 64"));
        }
        self.vector.as_ref().map_or(Ok(()), Vector::check)
    }
}

/// The successor by the last change that ended the validity.
fn successor(changes: &[Change]) -> Option<MemoryId> {
    let ends = |change: &&Change| change.verb.ends();
    changes.iter().rfind(ends)?.successor
}

impl Tombstone {
    fn check(&self) -> Result<()> {
        check_history(&self.changes)?;
        let n_erased = self
            .changes
            .iter()
            .filter(|c| c.verb == Verb::Erased)
            .count();
        let is_last = self.changes.last().is_some_and(|c| c.verb == Verb::Erased);
        if !is_last || n_erased != 1 {
            return Err(Error::invalid("history", "it ends with the erasure"));
        }
        if self.keys.len() > Item::KEYS_MAX {
            return Err(Error::invalid("keys", "at most 64"));
        }
        Ok(())
    }
}

fn check_history(changes: &[Change]) -> Result<()> {
    let is_first_alone = |(n, change): (usize, &Change)| (change.verb == Verb::Added) == (n == 0);
    if !(1..=Item::CHANGES_MAX).contains(&changes.len())
        || !changes.iter().enumerate().all(is_first_alone)
    {
        return Err(Error::invalid(
            "history",
            "1 to 10,000 changes, the addition first",
        ));
    }
    let reasons = changes.iter().filter_map(|change| change.reason.as_deref());
    reasons.into_iter().try_for_each(check_reason)
}

fn check_version(version: &RelationVersion) -> Result<()> {
    version.relation.check()?;
    if version.relation.valid_from.is_none() {
        return Err(Error::invalid("relation", "a start of its validity"));
    }
    if version.known_to.is_some_and(|to| to < version.known_from) {
        return Err(Error::invalid(
            "relation",
            "it was known before it was replaced",
        ));
    }
    Ok(())
}

impl Vector {
    fn check(&self) -> Result<()> {
        let is_named = (1..=256).contains(&self.space.len());
        let is_scale = self.scale.is_finite() && self.scale > 0.0;
        if is_named && is_scale && !self.bytes.contains(&i8::MIN) && !self.bytes.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(
                "vector",
                "a space, numbers of -127 to 127 and a scale above 0",
            ))
        }
    }
}

/// Items that were checked, their memories with vectors of the store's space.
pub(crate) async fn prepared(
    env: &Env,
    embedder: &dyn Embedder,
    scope: &Scope,
    at: &Namespace,
    items: Vec<Item>,
) -> Result<Vec<(Item, Option<Quantized>)>> {
    if items.len() > Item::BATCH_MAX {
        return Err(Error::invalid("items", "at most 1,000 in a call"));
    }
    items.iter().try_for_each(|item| item.check(at))?;
    let mut prepared = Vec::with_capacity(items.len());
    let (mut texts, mut places) = (Vec::new(), Vec::new());
    for (n, item) in items.into_iter().enumerate() {
        let vector = match &item {
            Item::Memory(kept) => {
                let vector = usable(kept.vector.as_ref(), embedder);
                if vector.is_none() {
                    texts.push(kept.memory.text.clone());
                    places.push(n);
                }
                vector
            }
            Item::Erased(_) | Item::Relation(_) => None,
        };
        prepared.push((item, vector));
    }
    if !texts.is_empty() {
        let vectors = embed(env, embedder, scope, &texts).await?;
        for (place, vector) in places.into_iter().zip(vectors) {
            if let Some((_, empty)) = prepared.get_mut(place) {
                *empty = vector;
            }
        }
    }
    Ok(prepared)
}

fn usable(vector: Option<&Vector>, embedder: &dyn Embedder) -> Option<Quantized> {
    let fits = |v: &&Vector| v.space == embedder.space() && v.bytes.len() == embedder.dimensions();
    vector.filter(fits).map(|vector| Quantized {
        bytes: vector.bytes.clone(),
        scale: vector.scale,
    })
}

/// What a store has under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    Memory,
    Erased,
    Unknown,
}

/// What is to become of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is written.
    Take,
    /// It is left out.
    LeaveOut,
    /// It hangs on something erased: only a tombstone is written, so that what hangs on it in turn
    /// finds that.
    Bury,
}

/// Decides about items in their order. Nothing is changed.
pub(crate) fn plan(
    items: &[(Item, Option<Quantized>)],
    mut here: impl FnMut(MemoryId) -> Result<Here>,
) -> Result<Vec<Fate>> {
    let mut before: HashMap<MemoryId, Here> = HashMap::new();
    let mut fates = Vec::with_capacity(items.len());
    for (item, _) in items {
        let mut look = |id: MemoryId| before.get(&id).map_or_else(|| here(id), |here| Ok(*here));
        let (fate, mark) = match item {
            Item::Memory(kept) => {
                let id = kept.memory.id;
                if look(id)? == Here::Unknown {
                    if hangs_on_erased(&kept.memory.provenance.sources, &mut look)? {
                        (Fate::Bury, Some((id, Here::Erased)))
                    } else {
                        (Fate::Take, Some((id, Here::Memory)))
                    }
                } else {
                    (Fate::LeaveOut, None)
                }
            }
            Item::Erased(tombstone) if look(tombstone.id)? == Here::Unknown => {
                (Fate::Take, Some((tombstone.id, Here::Erased)))
            }
            Item::Erased(_) => (Fate::LeaveOut, None),
            Item::Relation(version) => {
                let ends = [&version.relation.from, &version.relation.to];
                let memories = ends.into_iter().filter_map(|node| match node {
                    Node::Memory(id) => Some(*id),
                    Node::Entity(_) => None,
                });
                let ids: Vec<MemoryId> = memories.collect();
                let fate = if hangs_on_erased(&ids, &mut look)? {
                    Fate::LeaveOut
                } else {
                    Fate::Take
                };
                (fate, None)
            }
        };
        before.extend(mark);
        fates.push(fate);
    }
    Ok(fates)
}

fn hangs_on_erased(
    ids: &[MemoryId],
    look: &mut impl FnMut(MemoryId) -> Result<Here>,
) -> Result<bool> {
    let mut is_erased = false;
    for id in ids {
        match look(*id)? {
            Here::Memory => {}
            Here::Erased => is_erased = true,
            Here::Unknown => return Err(Error::NotFound { id: *id }),
        }
    }
    Ok(is_erased)
}

/// What is left of a memory that hangs on something erased.
pub(crate) fn buried(scope: &Scope, kept: &Kept, now: agent_core::Timestamp) -> Tombstone {
    let mut changes = kept.changes.clone();
    for change in &mut changes {
        change.reason = None;
    }
    changes.push(Change {
        verb: Verb::Erased,
        at: now,
        actor: scope.actor.clone(),
        reason: Some("what it was derived from is erased here".to_owned()),
        valid_to: None,
        successor: None,
    });
    Tombstone {
        id: kept.memory.id,
        changes,
        keys: kept.keys.iter().map(|key| key.digest).collect(),
    }
}
