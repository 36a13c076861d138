//! The contract of a memory store.

use std::fmt;
use std::sync::Arc;

use agent_core::{Scope, Timestamp};
use async_trait::async_trait;

use crate::as_of::{AsOf, View};
use crate::error::{Error, Result};
use crate::memory::{Added, Change, Draft, Memory, MemoryId, Receipt, Selection};
use crate::metadata::Relabel;
use crate::namespace::Namespace;
use crate::query::{Hit, Listing, Query};
use crate::relation::{Node, Path, Relation, Walk};
use crate::validity;

/// Keeps memories, finds them, and erases them.
///
/// This is the contract for _implementors_. Users call [`MemoryStoreExt`] as well. An
/// implementation must pass the suite in `conformance`.
///
/// Every call names a partition: the tenant of the scope and a [`Namespace`]. Nothing of another
/// partition is ever read or changed, and ids of another partition are as unknown as made-up ones.
/// A scope that is canceled or past its deadline is refused with `Canceled` or `TimedOut` before
/// anything is changed; a tenant name that is empty, longer than 256 bytes or not plain is
/// `Invalid`.
#[async_trait]
pub trait MemoryStore: fmt::Debug + Send + Sync + 'static {
    /// Adds memories, all or none, and returns one answer per draft in their order.
    ///
    /// On return they are as durable as the store promises and the next search finds them. A draft
    /// whose key was used for the same draft before adds nothing and returns the first id. A crash
    /// before the return leaves all of them or none; repeating the call with the same keys is
    /// harmless in both cases.
    ///
    /// # Errors
    /// `Invalid` for drafts beyond the limits, without visible text, more than
    /// [`Draft::BATCH_MAX`], or superseding an event; `NotFound` for a source or a
    /// superseded record that is not here; `Conflict` for a key used for something else or for an
    /// erased memory, and for a record that is retired already, unless the draft's own validity
    /// ends by then, so that it comes between a superseded record and its successor; the
    /// embedder's; the store's.
    ///
    /// # Cancel safety
    /// Atomic: all drafts are added or none.
    async fn add(&self, scope: &Scope, at: Namespace, drafts: Vec<Draft>) -> Result<Vec<Added>>;

    /// Returns one memory, retired or not.
    ///
    /// # Errors
    /// `NotFound`; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn get(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Memory>;

    /// Finds memories by words, meaning, threads, relations and age, best first.
    ///
    /// Every acknowledged write is seen. Among equal scores the one added later comes first, so
    /// the same store and clock give the same answer. A text without anything to search for finds
    /// nothing.
    ///
    /// # Errors
    /// `Invalid` for a query beyond the limits; the embedder's; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>>;

    /// Ends a record's validity. The record stays, with its history.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an event, which is immutable, or for an end before the record's
    /// validity begins; `Conflict` if it has ended by then; the store's. An end may be moved to
    /// an earlier moment, never to a later one.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn retire(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        valid_to: Timestamp,
        reason: String,
    ) -> Result<()>;

    /// Erases memories, and every record derived from one of them, from all tables, indexes and
    /// files. What is kept: the ids, the times, the actors, the reason given here, and digests of
    /// the idempotency keys, so that a repeated `add` does not bring them back.
    ///
    /// # Errors
    /// `Invalid` for too many ids or a bad name; `Denied` if one of them is under legal hold
    /// ([`label::HOLD`](crate::label::HOLD)), and nothing is erased; the store's. Ids that are not here are passed
    /// over, so a repeated call succeeds.
    ///
    /// # Cancel safety
    /// Atomic: all are erased or none. Dropped early, the emptying of the write-ahead log may be
    /// left to the next call.
    async fn forget(
        &self,
        scope: &Scope,
        at: Namespace,
        what: Selection,
        reason: String,
    ) -> Result<Receipt>;

    /// Adds relations, all or none.
    ///
    /// A relation is named by its ends, its label and the start of its validity; without a start
    /// the one that holds now is meant, and if none does, a new one starts now. One that is there
    /// already is replaced: the version before stays known until now. One that is there just so is
    /// left alone, so a repeated call changes nothing.
    ///
    /// # Errors
    /// `Invalid` for relations beyond the limits or ending before they start; `NotFound` for a
    /// memory that is not here; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn relate(&self, scope: &Scope, at: Namespace, relations: Vec<Relation>) -> Result<()>;

    /// Returns a shortest path to each node the walk reaches, nearest first. Ties are broken by
    /// label and node, so the answer is always the same.
    ///
    /// # Errors
    /// `Invalid` for a walk beyond the limits; the store's. A node without relations has no paths.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>>;

    /// Returns one page of what passes a filter, in the order of the ids; a page shorter than the
    /// limit is the last. What is added while pages are read may be missing from them.
    ///
    /// # Errors
    /// `Invalid` for a listing beyond the limits; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn list(&self, scope: &Scope, at: Namespace, listing: Listing) -> Result<Vec<Memory>>;

    /// Changes labels of a memory, all or none; its history says that and why.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for labels or a reason beyond the limits; the store's.
    ///
    /// # Cancel safety
    /// Atomic.
    async fn relabel(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        labels: Vec<(String, Relabel)>,
        reason: String,
    ) -> Result<()>;

    /// Returns what happened to a memory, oldest first. It outlives the memory.
    ///
    /// # Errors
    /// `NotFound` if the namespace never had it; the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn history(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Vec<Change>>;
}

/// Shorthands over [`MemoryStore`], for users. Do not implement it.
#[async_trait]
pub trait MemoryStoreExt: MemoryStore {
    /// Adds one memory, as [`MemoryStore::add`].
    ///
    /// # Errors
    /// As [`MemoryStore::add`].
    ///
    /// # Cancel safety
    /// Atomic.
    async fn add_one(&self, scope: &Scope, at: Namespace, draft: Draft) -> Result<Added> {
        let added = self.add(scope, at, vec![draft]).await?;
        added
            .first()
            .copied()
            .ok_or_else(|| Error::corrupt("a store answered no draft"))
    }

    /// Returns one memory as it was at a moment, retired or not unless a time in the world is
    /// asked for.
    ///
    /// # Errors
    /// `NotFound` for a memory that was not known then or did not hold at that time in the world;
    /// the store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn get_as_of(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        as_of: AsOf,
    ) -> Result<Memory> {
        let memory = self.get(scope, at.clone(), id).await?;
        let changes = self.history(scope, at, id).await?;
        let memory = validity::as_known(memory, &changes, as_of.known);
        let view = View {
            valid: as_of.valid,
            known: as_of.known,
        };
        memory
            .filter(|memory| view.holds(memory.valid_from, memory.valid_to))
            .ok_or(Error::NotFound { id })
    }

    /// Erases one memory, as [`MemoryStore::forget`].
    ///
    /// # Errors
    /// As [`MemoryStore::forget`].
    ///
    /// # Cancel safety
    /// Atomic.
    async fn forget_one(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        reason: String,
    ) -> Result<Receipt> {
        self.forget(scope, at, Selection::Ids(vec![id]), reason)
            .await
    }

    /// Returns the nodes one relation away, in either direction.
    ///
    /// # Errors
    /// As [`MemoryStore::paths`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn neighbours(&self, scope: &Scope, at: Namespace, node: Node) -> Result<Vec<Node>> {
        let walk = Walk::from(node).with_limit(Walk::LIMIT_MAX);
        let paths = self.paths(scope, at, walk).await?;
        Ok(paths.into_iter().map(|path| path.to).collect())
    }
}

impl<S: MemoryStore + ?Sized> MemoryStoreExt for S {}

#[async_trait]
impl<S: MemoryStore + ?Sized> MemoryStore for Arc<S> {
    async fn add(&self, scope: &Scope, at: Namespace, drafts: Vec<Draft>) -> Result<Vec<Added>> {
        (**self).add(scope, at, drafts).await
    }

    async fn get(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Memory> {
        (**self).get(scope, at, id).await
    }

    async fn search(&self, scope: &Scope, query: Query) -> Result<Vec<Hit>> {
        (**self).search(scope, query).await
    }

    async fn retire(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        valid_to: Timestamp,
        reason: String,
    ) -> Result<()> {
        (**self).retire(scope, at, id, valid_to, reason).await
    }

    async fn forget(
        &self,
        scope: &Scope,
        at: Namespace,
        what: Selection,
        reason: String,
    ) -> Result<Receipt> {
        (**self).forget(scope, at, what, reason).await
    }

    async fn relate(&self, scope: &Scope, at: Namespace, relations: Vec<Relation>) -> Result<()> {
        (**self).relate(scope, at, relations).await
    }

    async fn paths(&self, scope: &Scope, at: Namespace, walk: Walk) -> Result<Vec<Path>> {
        (**self).paths(scope, at, walk).await
    }

    async fn list(&self, scope: &Scope, at: Namespace, listing: Listing) -> Result<Vec<Memory>> {
        (**self).list(scope, at, listing).await
    }

    async fn relabel(
        &self,
        scope: &Scope,
        at: Namespace,
        id: MemoryId,
        labels: Vec<(String, Relabel)>,
        reason: String,
    ) -> Result<()> {
        (**self).relabel(scope, at, id, labels, reason).await
    }

    async fn history(&self, scope: &Scope, at: Namespace, id: MemoryId) -> Result<Vec<Change>> {
        (**self).history(scope, at, id).await
    }
}
