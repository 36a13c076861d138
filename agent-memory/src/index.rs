//! The derived index of one namespace in main memory: labels, vectors, postings, threads and
//! relations. It holds no truth: a backend builds it from its records and catches it up by the
//! number of the last change it has seen.

mod best;
#[cfg(feature = "sqlite")]
mod blocks;
mod erase;
mod fuse;
mod graph;
mod keywords;
mod labels;
mod large;
mod list;
mod numbers;
mod rank;
#[cfg(feature = "sqlite")]
mod snapshot;
mod spaces;
mod tokens;
mod vectors;

use std::collections::HashMap;

use agent_core::{Embedder, Timestamp};

use crate::memory::{Kind, MemoryId, Trust};
use crate::metadata::Metadata;
use crate::relation::{Node, Path, Relation, RelationVersion, Walk};
use graph::Graph;
use keywords::Keywords;
use labels::Labels;
use numbers::number;
use tokens::Tokens;
use vectors::Vectors;

#[cfg(feature = "sqlite")]
pub(crate) use blocks::{Blocks, Unblocks};
#[cfg(feature = "postgres")]
pub(crate) use fuse::Near;
pub(crate) use fuse::{Plan, Scored};
pub(crate) use labels::INDEXED;
pub(crate) use numbers::from_count;
pub(crate) use vectors::Quantized;

/// Erased rows are swept out by a rebuild when they are this many and a fifth of all.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const DEAD_MIN: usize = 1_024;

/// When which index is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most memories of a namespace whose words are indexed in main memory.
    pub(crate) postings_max: usize,
    /// Where a namespace has more memories than this, at most about so many vectors are looked at
    /// closely and twice as many postings are added up.
    pub(crate) exact_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            postings_max: 4_000_000,
            exact_max: 50_000,
        }
    }
}

/// What the index takes of a memory.
pub(crate) struct NewRow<'a> {
    pub(crate) id: MemoryId,
    pub(crate) seq: i64,
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) metadata: Metadata,
    pub(crate) thread: Option<&'a str>,
    pub(crate) trust: Trust,
    pub(crate) occurred_at: Timestamp,
    pub(crate) recorded_at: Timestamp,
    pub(crate) valid_from: Timestamp,
    pub(crate) valid_to: Option<Timestamp>,
    /// Absent if the memory was embedded in another space.
    pub(crate) vector: Option<&'a Quantized>,
    /// Present if it was embedded in the space of the former embedder.
    pub(crate) former: Option<&'a Quantized>,
}

struct Row {
    id: MemoryId,
    seq: i64,
    kind: Kind,
    metadata: Metadata,
    trust: Trust,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    valid_from: Timestamp,
    valid_to: Option<Timestamp>,
    is_question: bool,
    is_alive: bool,
}

/// An end of validity that was known until a later change.
struct Believed {
    until: Timestamp,
    valid_to: Option<Timestamp>,
}

struct Thread {
    name: String,
    /// Its rows in the order they were added, erased ones left out.
    rows: Vec<usize>,
}

/// The thread of a row without one.
const NO_THREAD: u32 = u32::MAX;

/// The index of one namespace.
pub(crate) struct Partition {
    limits: Limits,
    rows: Vec<Row>,
    by_id: HashMap<MemoryId, usize>,
    /// Of the rows whose validity was changed: what was believed before, oldest first.
    believed: HashMap<usize, Vec<Believed>>,
    threads: Vec<Thread>,
    /// By thread: how long its texts are together; apart, since a search looks at all of them.
    thread_words: Vec<u32>,
    /// By row; apart from the rows, since a search looks at many of them.
    thread_of: Vec<u32>,
    thread_ids: HashMap<String, usize>,
    vectors: Vectors,
    /// Of the rows that the former embedder embedded; none once there are no such rows.
    former: Option<Vectors>,
    /// None if the namespace is larger than the limit.
    keywords: Option<Keywords>,
    /// None if the embedder has no vectors of tokens, or words are not indexed here.
    tokens: Option<Tokens>,
    graph: Graph,
    labels: Labels,
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    last_seq: i64,
}

impl Partition {
    pub(crate) fn new(
        limits: Limits,
        embedder: &dyn Embedder,
        former: Option<&dyn Embedder>,
    ) -> Self {
        let has_words = limits.postings_max > 0;
        Self {
            limits,
            rows: Vec::new(),
            by_id: HashMap::new(),
            believed: HashMap::new(),
            threads: Vec::new(),
            thread_words: Vec::new(),
            thread_of: Vec::new(),
            thread_ids: HashMap::new(),
            vectors: Vectors::new(embedder.dimensions()),
            former: former.map(|former| Vectors::new(former.dimensions())),
            keywords: has_words.then(Keywords::default),
            tokens: embedder
                .token_vectors()
                .filter(|_| has_words)
                .map(Tokens::new),
            graph: Graph::default(),
            labels: Labels::default(),
            #[cfg(any(feature = "postgres", feature = "sqlite"))]
            last_seq: 0,
        }
    }

    /// The number of the last change this index has seen.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) const fn last_seq(&self) -> i64 {
        self.last_seq
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn seen(&mut self, seq: i64) {
        self.last_seq = self.last_seq.max(seq);
    }

    /// Whether there are so many vectors that another index of them is worth asking.
    #[cfg(feature = "postgres")]
    pub(crate) const fn is_large(&self) -> bool {
        self.rows.len() > self.limits.exact_max
    }

    /// Whether words are looked up here; if not, the backend's own keyword index must be asked.
    #[cfg(feature = "sqlite")]
    pub(crate) const fn has_keywords(&self) -> bool {
        self.keywords.is_some()
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn is_stale(&self) -> bool {
        let n_dead = self.rows.len() - self.by_id.len();
        n_dead >= DEAD_MIN && n_dead * 5 >= self.rows.len()
    }

    pub(crate) fn insert(&mut self, new: NewRow<'_>) {
        if self.by_id.contains_key(&new.id) {
            return;
        }
        let n = self.rows.len();
        let thread = new.thread.map(|name| self.thread(name));
        self.thread_of.push(thread.map_or(NO_THREAD, number));
        self.vectors.push(new.vector);
        if let Some(former) = &mut self.former {
            former.push(new.former);
        }
        match &mut self.keywords {
            Some(_) if n >= self.limits.postings_max => (self.keywords, self.tokens) = (None, None),
            Some(keywords) => keywords.insert(n, new.text),
            None => {}
        }
        if let Some(tokens) = &mut self.tokens {
            tokens.push(new.text);
        }
        let n_words = self.n_words(n);
        if let Some(thread) = thread {
            self.lengthen(thread, n, n_words);
        }
        self.by_id.insert(new.id, n);
        self.labels.insert(n, &new.metadata);
        self.rows.push(Row {
            id: new.id,
            seq: new.seq,
            kind: new.kind,
            metadata: new.metadata,
            trust: new.trust,
            occurred_at: new.occurred_at,
            recorded_at: new.recorded_at,
            valid_from: new.valid_from,
            valid_to: new.valid_to,
            is_question: new.text.contains('?'),
            is_alive: true,
        });
    }

    fn thread(&mut self, name: &str) -> usize {
        if let Some(thread) = self.thread_ids.get(name) {
            return *thread;
        }
        let thread = self.threads.len();
        self.threads.push(Thread {
            name: name.to_owned(),
            rows: Vec::new(),
        });
        self.thread_words.push(0);
        self.thread_ids.insert(name.to_owned(), thread);
        thread
    }

    fn lengthen(&mut self, thread: usize, row: usize, n_words: u32) {
        if let (Some(thread), Some(words)) = (
            self.threads.get_mut(thread),
            self.thread_words.get_mut(thread),
        ) {
            thread.rows.push(row);
            *words = words.saturating_add(n_words);
        }
    }

    /// Ends a row's validity. `first` is the end it was added with, `at` when the change came.
    pub(crate) fn retire(
        &mut self,
        id: MemoryId,
        first: Option<Timestamp>,
        valid_to: Option<Timestamp>,
        at: Timestamp,
    ) {
        let Some(n) = self.by_id.get(&id) else {
            return;
        };
        let Some(row) = self.rows.get_mut(*n) else {
            return;
        };
        let believed = self.believed.entry(*n).or_default();
        // A row that is loaded after its last change has the last end already.
        let before = if believed.is_empty() {
            first
        } else {
            row.valid_to
        };
        believed.push(Believed {
            until: at,
            valid_to: before,
        });
        row.valid_to = valid_to;
    }

    /// Gives the memory other labels.
    pub(crate) fn relabel(&mut self, id: MemoryId, labels: Metadata) {
        let Some(n) = self.by_id.get(&id).copied() else {
            return;
        };
        let Some(row) = self.rows.get_mut(n) else {
            return;
        };
        let old = std::mem::replace(&mut row.metadata, labels);
        self.labels.remove(n, &old);
        self.labels.insert(n, &row.metadata);
    }

    /// Adds a version of a relation in place of the one known before.
    pub(crate) fn relate(&mut self, version: &RelationVersion) {
        self.graph.insert(version);
    }

    /// Versions of relations in the order they were added, from behind number `after`.
    pub(crate) fn versions(&self, after: i64, n_max: usize) -> Vec<(i64, RelationVersion)> {
        self.graph.versions(after, n_max)
    }

    /// Whether a version is here, or another that is known at present in its place.
    pub(crate) fn has_version(&self, version: &RelationVersion) -> bool {
        self.graph.has_version(version)
    }

    /// The number of the change that added a memory.
    pub(crate) fn seq_of(&self, id: MemoryId) -> Option<i64> {
        let row = self.by_id.get(&id)?;
        Some(self.rows.get(*row)?.seq)
    }

    /// The versions known at present of the relation with these ends and this label.
    pub(crate) fn known_relations(&self, relation: &Relation) -> Vec<Relation> {
        self.graph.known(relation)
    }

    /// Removes every relation and returns how many there were.
    pub(crate) fn remove_relations(&mut self) -> usize {
        std::mem::take(&mut self.graph).n_relations()
    }

    /// Whether it holds neither memories nor relations.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.graph.is_empty()
    }

    pub(crate) fn remove_node(&mut self, node: &Node) -> usize {
        self.graph.remove(node)
    }

    /// The memories one relation away from a node, at present or before.
    pub(crate) fn related(&self, node: &Node) -> Vec<MemoryId> {
        self.graph.ever_around(node).into_iter().collect()
    }

    pub(crate) fn paths(&self, walk: &Walk, now: Timestamp) -> Vec<Path> {
        self.graph.paths(walk, walk.as_of.view(now, false))
    }

    fn thread_of(&self, row: usize) -> Option<usize> {
        let thread = *self.thread_of.get(row)?;
        (thread != NO_THREAD).then_some(thread as usize)
    }

    fn thread_name(&self, row: usize) -> Option<&str> {
        let thread = self.threads.get(self.thread_of(row)?)?;
        Some(&thread.name)
    }

    fn n_words(&self, row: usize) -> u32 {
        let keywords = self.keywords.as_ref();
        number(keywords.and_then(|words| words.length(row)).unwrap_or(0))
    }
}
