//! The index of a namespace as bytes, so that a large one need not be built from its texts each
//! time a store is opened. Relations are left out: they are few and read from the tables.

use std::io::{self, Read, Write};

use super::blocks::{Blocks, Unblocks};
use super::keywords::List;
use super::numbers::number;
use super::{Believed, NO_THREAD, Partition, Row, Thread};
use crate::memory::{Kind, MemoryId, Trust};
use crate::metadata::Metadata;

impl Partition {
    /// Whether all of it can be saved: vectors of a former embedder are not.
    pub(crate) const fn can_be_saved(&self) -> bool {
        self.former.is_none()
    }

    /// Writes the index without its relations.
    pub(crate) fn save<W: Write>(&self, to: &mut Blocks<W>) -> io::Result<()> {
        to.long(self.last_seq)?;
        to.size(self.rows.len())?;
        self.rows.iter().try_for_each(|row| save_row(row, to))?;
        to.size(self.believed.len())?;
        let mut believed: Vec<_> = self.believed.iter().collect();
        believed.sort_unstable_by_key(|(row, _)| **row);
        for (row, versions) in believed {
            to.size(*row)?;
            to.size(versions.len())?;
            for version in versions {
                to.long(version.until.as_unix_ms())?;
                to.time(version.valid_to)?;
            }
        }
        to.size(self.threads.len())?;
        for (thread, n_words) in self.threads.iter().zip(&self.thread_words) {
            to.text(&thread.name)?;
            to.numbers(&thread.rows.iter().copied().map(number).collect::<Vec<_>>())?;
            to.put(&n_words.to_le_bytes())?;
        }
        self.vectors.save(to)?;
        self.save_words(to)
    }

    fn save_words<W: Write>(&self, to: &mut Blocks<W>) -> io::Result<()> {
        to.put(&[u8::from(self.keywords.is_some())])?;
        if let Some(words) = &self.keywords {
            let mut ids: Vec<_> = words.ids.iter().collect();
            ids.sort_unstable_by_key(|(_, id)| **id);
            to.size(ids.len())?;
            for (word, id) in ids {
                to.text(word)?;
                to.put(&id.to_le_bytes())?;
            }
            to.size(words.lists.len())?;
            for list in &words.lists {
                to.numbers(&list.rows)?;
                to.put(&list.counts)?;
            }
            to.numbers(&words.terms)?;
            to.size(words.starts.len())?;
            words.starts.iter().try_for_each(|start| to.size(*start))?;
            to.numbers(&words.lengths)?;
            to.size(words.n_texts)?;
            to.size(words.length_total)?;
        }
        to.put(&[u8::from(self.tokens.is_some())])?;
        if let Some(tokens) = &self.tokens {
            to.numbers(&tokens.all)?;
            to.size(tokens.rows.len())?;
            for (start, n) in &tokens.rows {
                to.size(*start)?;
                to.put(&n.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Reads into an empty index; false if the bytes are damaged or were written for an index of
    /// another kind, and then the index must be thrown away.
    pub(crate) fn load<R: Read>(&mut self, mut from: Unblocks<R>) -> bool {
        let mut read = || {
            self.last_seq = from.long()?;
            self.load_rows(&mut from)?;
            self.load_threads(&mut from)?;
            self.vectors.load(&mut from, self.rows.len())?;
            self.load_words(&mut from)?;
            Some(())
        };
        read().and_then(|()| from.finish()).is_some() && self.is_consistent()
    }

    /// Whether the parts are about the same rows.
    fn is_consistent(&self) -> bool {
        let n = self.rows.len();
        let of_words = self.keywords.as_ref();
        let of_words = of_words.is_none_or(|k| k.starts.len() == n && k.lengths.len() == n);
        let of_tokens = self.tokens.as_ref().is_none_or(|t| t.rows.len() == n);
        of_words && of_tokens
    }

    fn load_rows<R: Read>(&mut self, from: &mut Unblocks<R>) -> Option<()> {
        let n_rows = from.size()?;
        for n in 0..n_rows {
            let row = load_row(from)?;
            if row.is_alive {
                self.by_id.insert(row.id, n);
                self.labels.insert(n, &row.metadata);
            }
            self.rows.push(row);
        }
        for _ in 0..from.size()? {
            let (row, n_versions) = (from.size()?, from.size()?);
            let mut versions = Vec::new();
            for _ in 0..n_versions {
                versions.push(Believed {
                    until: from.moment()?,
                    valid_to: from.time()?,
                });
            }
            self.believed.insert(row, versions);
        }
        Some(())
    }

    fn load_threads<R: Read>(&mut self, from: &mut Unblocks<R>) -> Option<()> {
        self.thread_of = vec![NO_THREAD; self.rows.len()];
        for n in 0..from.size()? {
            let thread = Thread {
                name: from.text()?,
                rows: from
                    .numbers()?
                    .into_iter()
                    .map(|row| row as usize)
                    .collect(),
            };
            self.thread_words.push(u32::from_le_bytes(from.array()?));
            for row in &thread.rows {
                *self.thread_of.get_mut(*row)? = number(n);
            }
            if !thread.rows.is_empty() {
                self.thread_ids.insert(thread.name.clone(), n);
            }
            self.threads.push(thread);
        }
        Some(())
    }

    fn load_words<R: Read>(&mut self, from: &mut Unblocks<R>) -> Option<()> {
        if from.flag()? != self.keywords.is_some() {
            return None;
        }
        if let Some(words) = &mut self.keywords {
            for _ in 0..from.size()? {
                let word = from.text()?.into_boxed_str();
                words.ids.insert(word, u32::from_le_bytes(from.array()?));
            }
            for _ in 0..from.size()? {
                let rows = from.numbers()?;
                let counts = from.bytes(rows.len())?;
                words.lists.push(List { rows, counts });
            }
            words.terms = from.numbers()?;
            for _ in 0..from.size()? {
                words.starts.push(from.size()?);
            }
            words.lengths = from.numbers()?;
            (words.n_texts, words.length_total) = (from.size()?, from.size()?);
        }
        if from.flag()? != self.tokens.is_some() {
            return None;
        }
        if let Some(tokens) = &mut self.tokens {
            tokens.all = from.numbers()?;
            for _ in 0..from.size()? {
                let start = from.size()?;
                tokens.rows.push((start, u32::from_le_bytes(from.array()?)));
            }
        }
        Some(())
    }
}

fn save_row<W: Write>(row: &Row, to: &mut Blocks<W>) -> io::Result<()> {
    to.put(&row.id.to_bits().to_le_bytes())?;
    to.long(row.seq)?;
    to.long(row.trust.rank())?;
    to.long(row.occurred_at.as_unix_ms())?;
    to.long(row.recorded_at.as_unix_ms())?;
    to.long(row.valid_from.as_unix_ms())?;
    to.time(row.valid_to)?;
    to.put(&[u8::from(row.is_question), u8::from(row.is_alive)])?;
    to.text(row.kind.as_str())?;
    if row.metadata.is_empty() {
        return to.text("");
    }
    to.text(&serde_json::to_string(&row.metadata)?)
}

fn load_row<R: Read>(from: &mut Unblocks<R>) -> Option<Row> {
    Some(Row {
        id: MemoryId::from_bits(u128::from_le_bytes(from.array()?)),
        seq: from.long()?,
        trust: Trust::parse(from.long()?)?,
        occurred_at: from.moment()?,
        recorded_at: from.moment()?,
        valid_from: from.moment()?,
        valid_to: from.time()?,
        is_question: from.flag()?,
        is_alive: from.flag()?,
        kind: Kind::parse(&from.text()?)?,
        metadata: match from.text()? {
            json if json.is_empty() => Metadata::new(),
            json => serde_json::from_str(&json).ok()?,
        },
    })
}
