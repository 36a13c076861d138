//! Taking memories out of the index, with all that was derived from them.

use super::{NO_THREAD, Partition};
use crate::memory::MemoryId;
use crate::relation::Node;

impl Partition {
    /// Removes all that was derived from the memories, and overwrites their vectors. Many at a time
    /// are quicker than one after another.
    pub(crate) fn erase_all(&mut self, ids: &[MemoryId]) {
        let erased = ids
            .iter()
            .filter_map(|id| Some((self.by_id.remove(id)?, *id)));
        let mut erased: Vec<(usize, MemoryId)> = erased.collect();
        erased.sort_unstable();
        for (n, id) in &erased {
            self.erase_row(*n, *id);
        }
        if let Some(keywords) = &mut self.keywords {
            let rows: Vec<usize> = erased.into_iter().map(|(n, _)| n).collect();
            keywords.erase(&rows);
        }
        self.vectors.settle();
        if let Some(former) = &mut self.former {
            former.settle();
        }
    }

    /// Removes all of a row but its words.
    fn erase_row(&mut self, n: usize, id: MemoryId) {
        self.believed.remove(&n);
        self.graph.remove(&Node::Memory(id));
        self.vectors.erase(n);
        if let Some(former) = &mut self.former {
            former.erase(n);
        }
        if let Some(tokens) = &mut self.tokens {
            tokens.erase(n);
        }
        let n_words = self.n_words(n);
        let Some(row) = self.rows.get_mut(n) else {
            return;
        };
        row.is_alive = false;
        let labels = std::mem::take(&mut row.metadata);
        self.labels.remove(n, &labels);
        let of_row = self.thread_of.get_mut(n);
        let thread = of_row.map_or(NO_THREAD, |thread| std::mem::replace(thread, NO_THREAD));
        if thread != NO_THREAD {
            self.shorten(thread as usize, n, n_words);
        }
    }

    /// Takes an erased row out of its thread.
    fn shorten(&mut self, thread: usize, row: usize, n_words: u32) {
        let (Some(thread), Some(words)) = (
            self.threads.get_mut(thread),
            self.thread_words.get_mut(thread),
        ) else {
            return;
        };
        *words = words.saturating_sub(n_words);
        thread.rows.retain(|other| *other != row);
        if thread.rows.is_empty() {
            self.thread_ids.remove(&thread.name);
            thread.name.clear();
        }
    }
}
