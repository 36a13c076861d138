//! A store as JSON Lines: version 1 of the format `agent-memory`.
//!
//! One JSON object a line, UTF-8, each with a `type`. Times are milliseconds since the Unix epoch,
//! `_ms` at the end of the name; bytes are lower-case hexadecimal digits; optional members are
//! absent or null. Unknown members are refused: what needs new ones gets another version.
//!
//! | `type` | members |
//! |---|---|
//! | `header` | first line: `format` `"agent-memory"`, `version` 1, `space` and `dimensions` of the embedder |
//! | `memory` | `namespace`, `id`, `kind`, `text`, `metadata`, `thread`, `occurred_ms`, `recorded_ms`, `valid_from_ms`, `valid_to_ms`, `superseded_by`, `actor`, `channel`, `trust` (`untrusted`, `normal`, `verified`), `sources`, `changes`, `keys`, `vector` |
//! | `erased` | `namespace`, `id`, `changes`, `keys` |
//! | `relation` | `namespace`, `from`, `label`, `to`, `weight`, `valid_from_ms`, `valid_to_ms`, `known_from_ms`, `known_to_ms` |
//! | `end` | last line: `lines`, how many came before it |
//!
//! A change is `verb`, `at_ms`, `actor`, `reason`, `valid_to_ms`, `successor`; a key of a memory
//! `digest` and `content`; a key of an erased one its digest; a vector `space`, `scale` and
//! `bytes`. An end of a relation is `memory:` and an id or `entity:` and a name. A namespace's
//! lines are together: memories in the order they were added, sources before what was derived from
//! them, then erased ones, then relations in the order they were added. The tenant is not named:
//! it is that of whoever imports.

mod line;

use agent_core::Scope;

use super::{Cursor, Item, Portable, Taken};
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use line::{End, Header, Line};

/// Writes a store's namespaces, part by part.
///
/// ```
/// # use std::sync::Arc;
/// # use agent_core::{Env, Principal, Scope};
/// # use agent_memory::backend::InMemory;
/// # use agent_memory::portable::{Portable, jsonl::{Export, Import}};
/// # use agent_memory::{Draft, MemoryStoreExt, Namespace, StaticEmbedder};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let embedder = Arc::new(StaticEmbedder::new()?);
/// # let (old, new) = (InMemory::new(Env::system(), embedder.clone()), InMemory::new(Env::system(), embedder));
/// # let (scope, at) = (Scope::new(Principal::new("human:ana")?), Namespace::new("ana")?);
/// old.add_one(&scope, at.clone(), Draft::event("I prefer window seats.")).await?;
/// let namespaces = old.namespaces(&scope).await?;
/// let mut export = Export::new(&old, &scope, namespaces);
/// let mut import = Import::new(&new, &scope);
/// while let Some(lines) = export.next().await? {
///     import.push(lines.as_bytes()).await?;
/// }
/// assert_eq!(import.finish().await?.n_new, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Export<'s, S: ?Sized> {
    store: &'s S,
    scope: &'s Scope,
    namespaces: std::vec::IntoIter<Namespace>,
    current: Option<(Namespace, Option<Cursor>)>,
    is_with_vectors: bool,
    n_lines: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Middle,
    Done,
}

impl<'s, S: Portable + ?Sized> Export<'s, S> {
    /// Exports these namespaces in their order, with vectors.
    #[must_use]
    pub fn new(store: &'s S, scope: &'s Scope, namespaces: Vec<Namespace>) -> Self {
        Self {
            store,
            scope,
            namespaces: namespaces.into_iter(),
            current: None,
            is_with_vectors: true,
            n_lines: 0,
            state: State::Start,
        }
    }

    /// Leaves the vectors out: the file is about half as long, and an import embeds every text.
    /// Default: they are written.
    #[must_use]
    pub const fn without_vectors(mut self) -> Self {
        self.is_with_vectors = false;
        self
    }

    /// Returns the next whole lines, maybe none before the end, which is `None`. At most
    /// [`Item::PART_MAX`] memories are held at a time.
    ///
    /// # Errors
    /// As [`Portable::give`]; the export can be gone on with by calling again.
    ///
    /// # Cancel safety
    /// Cancel safe: a call that is dropped returns nothing and is repeated by the next.
    pub async fn next(&mut self) -> Result<Option<String>> {
        match self.state {
            State::Start => {
                let (space, dimensions) = self.store.space();
                self.state = State::Middle;
                self.write([Line::Header(Header::new(space, dimensions))])
                    .map(Some)
            }
            State::Middle => self.part().await.map(Some),
            State::Done => Ok(None),
        }
    }

    async fn part(&mut self) -> Result<String> {
        if self.current.is_none() {
            self.current = self.namespaces.next().map(|at| (at, None));
        }
        let Some((at, from)) = self.current.clone() else {
            let end = Line::End(End {
                lines: self.n_lines,
            });
            self.state = State::Done;
            return self.write([end]);
        };
        let part = self.store.give(self.scope, at.clone(), from).await?;
        let mut lines = Vec::with_capacity(part.items.len());
        for mut item in part.items {
            if let (Item::Memory(kept), false) = (&mut item, self.is_with_vectors) {
                kept.vector = None;
            }
            lines.push(Line::of(&at, item));
        }
        let text = self.write(lines)?;
        self.current = part.next.map(|next| (at, Some(next)));
        Ok(text)
    }

    fn write(&mut self, lines: impl IntoIterator<Item = Line>) -> Result<String> {
        let mut text = String::new();
        for line in lines {
            let json = serde_json::to_string(&line)
                .map_err(|_unwritable| Error::corrupt("a memory that cannot be written"))?;
            text.push_str(&json);
            text.push('\n');
            self.n_lines += 1;
        }
        Ok(text)
    }
}

/// Reads an export into a store, piece by piece.
///
/// Lines are taken in batches of one namespace, each whole or not at all. An import that failed or
/// was cut off is repeated from the start: what was taken before adds nothing.
#[derive(Debug)]
pub struct Import<'s, S: ?Sized> {
    store: &'s S,
    scope: &'s Scope,
    only: Option<Vec<Namespace>>,
    /// The start of a line whose end has not come.
    rest: Vec<u8>,
    n_lines: u64,
    is_begun: bool,
    is_ended: bool,
    batch: Option<Batch>,
    taken: Taken,
}

#[derive(Debug)]
struct Batch {
    at: Namespace,
    first_line: u64,
    items: Vec<Item>,
    bytes: usize,
}

/// The longest line in bytes: a text of the greatest length with each byte escaped, a long history
/// and a vector.
pub const LINE_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// The most bytes of lines that are held for a batch.
const BATCH_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// The most items of a batch.
const BATCH_ITEMS_MAX: usize = 500;

impl<'s, S: Portable + ?Sized> Import<'s, S> {
    /// Imports into the tenant of the scope, into every namespace that the lines name.
    #[must_use]
    pub fn new(store: &'s S, scope: &'s Scope) -> Self {
        Self {
            store,
            scope,
            only: None,
            rest: Vec::new(),
            n_lines: 0,
            is_begun: false,
            is_ended: false,
            batch: None,
            taken: Taken::default(),
        }
    }

    /// Refuses lines of other namespaces. Default: all are taken.
    #[must_use]
    pub fn only_into(mut self, namespaces: Vec<Namespace>) -> Self {
        self.only = Some(namespaces);
        self
    }

    /// Reads a piece of the export, of any length.
    ///
    /// # Errors
    /// [`Error::Import`] with the line: `Invalid` for one that is longer than [`LINE_BYTES_MAX`], is
    /// not of the format or version, breaks a limit, or comes after the end; else as
    /// [`Portable::take`]. No line of its batch was taken, and the import is over.
    ///
    /// # Cancel safety
    /// Not cancel safe: begin the import again.
    pub async fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.hold(line)?;
            let line = std::mem::take(&mut self.rest);
            self.line(&line).await?;
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.hold(bytes)
    }

    /// Ends the import and returns what became of the lines.
    ///
    /// # Errors
    /// `Invalid` if the export was cut off: its last line has not come; else as [`Import::push`].
    ///
    /// # Cancel safety
    /// Not cancel safe: begin the import again.
    pub async fn finish(mut self) -> Result<Taken> {
        if !self.rest.is_empty() {
            let line = std::mem::take(&mut self.rest);
            self.line(&line).await?;
        }
        if self.is_ended {
            Ok(self.taken)
        } else {
            Err(self.refuse(Error::invalid(
                "export",
                "it is cut off: its end has not come",
            )))
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<()> {
        if self.rest.len() + bytes.len() > LINE_BYTES_MAX {
            self.n_lines += 1;
            return Err(self.refuse(Error::invalid("line", "at most 8,388,608 bytes")));
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    fn refuse(&self, source: Error) -> Error {
        Error::Import {
            line: self.n_lines.max(1),
            source: Box::new(source),
        }
    }

    async fn line(&mut self, bytes: &[u8]) -> Result<()> {
        self.n_lines += 1;
        if self.is_ended {
            return Err(self.refuse(Error::invalid("export", "nothing comes after its end")));
        }
        let line = Line::parse(bytes).map_err(|e| self.refuse(e))?;
        match (line, self.is_begun) {
            (Line::Header(header), false) => {
                header.check().map_err(|e| self.refuse(e))?;
                self.is_begun = true;
                Ok(())
            }
            (_, false) => Err(self.refuse(Error::invalid("export", "it begins with its header"))),
            (Line::Header(_), true) => {
                Err(self.refuse(Error::invalid("export", "it has one header")))
            }
            (Line::End(end), true) if end.lines == self.n_lines - 1 => {
                self.flush().await?;
                self.is_ended = true;
                Ok(())
            }
            (Line::End(_), true) => {
                Err(self.refuse(Error::invalid("export", "its end counts other lines")))
            }
            (line, true) => self.item(line, bytes.len()).await,
        }
    }

    async fn item(&mut self, line: Line, n_bytes: usize) -> Result<()> {
        let (at, item) = line.into_item().map_err(|e| self.refuse(e))?;
        if self.only.as_ref().is_some_and(|only| !only.contains(&at)) {
            return Err(self.refuse(Error::invalid("namespace", "it is not to be imported into")));
        }
        item.check(&at).map_err(|e| self.refuse(e))?;
        let is_full = self.batch.as_ref().is_some_and(|batch| {
            batch.at != at
                || batch.items.len() >= BATCH_ITEMS_MAX
                || batch.bytes + n_bytes > BATCH_BYTES_MAX
        });
        if is_full {
            self.flush().await?;
        }
        let first_line = self.n_lines;
        let batch = self.batch.get_or_insert_with(|| Batch {
            at,
            first_line,
            items: Vec::new(),
            bytes: 0,
        });
        batch.items.push(item);
        batch.bytes += n_bytes;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(batch) = self.batch.take() else {
            return Ok(());
        };
        let taken = self.store.take(self.scope, batch.at, batch.items).await;
        let taken = taken.map_err(|source| Error::Import {
            line: batch.first_line,
            source: Box::new(source),
        })?;
        self.taken.n_new += taken.n_new;
        self.taken.n_left_out += taken.n_left_out;
        Ok(())
    }
}
