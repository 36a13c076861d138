//! All that a store holds, given away and taken back: what export, import and moving from one
//! backend to another are made of. The text form is described in [`jsonl`].

pub mod jsonl;
mod take;

use agent_core::{Digest, Scope};
use async_trait::async_trait;

use crate::error::Result;
use crate::memory::{Change, Memory, MemoryId};
use crate::namespace::Namespace;
use crate::relation::RelationVersion;
use crate::store::MemoryStore;

pub(crate) use take::{Fate, Here, buried, plan, prepared};

/// A store that gives all it holds away and takes it back.
///
/// For the host alone: what is taken brings its own history, authors and trust with it, and they
/// are believed.
#[async_trait]
pub trait Portable: MemoryStore {
    /// Returns the name of the vector space the store embeds into, and the length of its vectors.
    fn space(&self) -> (String, usize);

    /// Returns the namespaces of the scope's tenant, in the order of their names.
    ///
    /// # Errors
    /// `Invalid` for a bad tenant; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn namespaces(&self, scope: &Scope) -> Result<Vec<Namespace>>;

    /// Returns the next part of a namespace: the memories in the order they were added, then what
    /// is left of the erased ones, then all versions of the relations. What is added once the
    /// first part was given is left out.
    ///
    /// # Errors
    /// `Invalid` for a bad tenant; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn give(&self, scope: &Scope, at: Namespace, from: Option<Cursor>) -> Result<Part>;

    /// Takes items, all or none. What is here already is left as it is, so taking twice adds
    /// nothing; what was erased here is not brought back, nor what was derived from it. A vector
    /// of another space is replaced by one of the store's embedder. An idempotency key that is
    /// used here already keeps its meaning.
    ///
    /// # Errors
    /// `Invalid` for items beyond the limits of the contract, of another namespace, or more than
    /// [`Item::BATCH_MAX`]; `NotFound` for a source or an end of a relation that is not here and
    /// comes with no earlier item; `Conflict` for an id of another namespace, where the store has
    /// one space of ids; the embedder's; the store's.
    ///
    /// # Cancel safety
    /// Atomic: all items are taken or none.
    async fn take(&self, scope: &Scope, at: Namespace, items: Vec<Item>) -> Result<Taken>;
}

/// Where the next part of a namespace begins. Meant for the store that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cursor {
    /// What is being given: memories, erased ones, relations.
    pub phase: Phase,
    /// The number of the last change given.
    pub after: i64,
    /// The number of the last change that is given at all.
    pub until: i64,
}

/// What a part holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Memories.
    Memories,
    /// What is left of erased memories.
    Erased,
    /// Versions of relations.
    Relations,
}

impl Cursor {
    pub(crate) const fn start(until: i64) -> Self {
        Self {
            phase: Phase::Memories,
            after: i64::MIN,
            until,
        }
    }

    /// The place behind a part whose last change is `last`; none if that was all.
    pub(crate) const fn behind(self, last: Option<i64>, is_full: bool) -> Option<Self> {
        if let (Some(after), true) = (last, is_full) {
            return Some(Self { after, ..self });
        }
        let phase = match self.phase {
            Phase::Memories => Phase::Erased,
            Phase::Erased => Phase::Relations,
            Phase::Relations => return None,
        };
        Some(Self {
            phase,
            after: i64::MIN,
            until: self.until,
        })
    }
}

/// A part of a namespace.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// The items, at most [`Item::PART_MAX`], maybe none before the end.
    pub items: Vec<Item>,
    /// Where the next part begins; none at the end.
    pub next: Option<Cursor>,
}

/// Something a store holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Item {
    /// A memory.
    Memory(Box<Kept>),
    /// What is left of an erased memory.
    Erased(Tombstone),
    /// A version of a relation.
    Relation(RelationVersion),
}

impl Item {
    /// The most items in one call to [`Portable::take`].
    pub const BATCH_MAX: usize = 1_000;
    /// The most items in one part of [`Portable::give`].
    pub const PART_MAX: usize = 250;
    /// The longest history of a memory.
    pub const CHANGES_MAX: usize = 10_000;
    /// The most idempotency keys of a memory.
    pub const KEYS_MAX: usize = 64;
}

/// A memory with all that belongs to it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// The memory.
    pub memory: Memory,
    /// Its history, oldest first.
    pub changes: Vec<Change>,
    /// The idempotency keys it was added with.
    pub keys: Vec<Key>,
    /// Its vector.
    pub vector: Option<Vector>,
}

/// What is left of an erased memory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tombstone {
    /// Its id.
    pub id: MemoryId,
    /// Its history, the erasure last.
    pub changes: Vec<Change>,
    /// Digests of the idempotency keys that must not bring it back.
    pub keys: Vec<Digest>,
}

/// An idempotency key, as digests; it is of use in the tenant and namespace it was used in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// Of the key.
    pub digest: Digest,
    /// Of the draft it stands for.
    pub content: Digest,
}

/// A vector of length one in 8-bit numbers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Vector {
    /// The name of its space.
    pub space: String,
    /// The numbers.
    pub bytes: Vec<i8>,
    /// What each is multiplied with.
    pub scale: f32,
}

/// What became of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// Taken for the first time.
    pub n_new: usize,
    /// Left out because they are here, were erased here, or hang on something erased here.
    pub n_left_out: usize,
}
