//! Which rows may be found, and pages of them.

use agent_core::Timestamp;

use super::{Partition, Row};
use crate::as_of::View;
use crate::memory::MemoryId;
use crate::metadata::label;
use crate::query::{Facts, Filter, Listing};

impl Partition {
    /// The memories of a page, in the order of their ids.
    pub(crate) fn list(&self, listing: &Listing, now: Timestamp) -> Vec<(MemoryId, i64)> {
        let view = listing.as_of.view(now, listing.is_with_retired);
        let passes = |row: &(usize, &Row)| {
            listing.after.is_none_or(|after| row.1.id > after)
                && self.is_eligible(*row, &listing.filter, view, listing.is_with_quarantined)
        };
        let key = |(_, row): (usize, &Row)| (row.id, row.seq);
        let mut found: Vec<(MemoryId, i64)> = match listing.filter.indexed() {
            Some((name, value)) => {
                let rows = self.labels.rows(name, value).iter();
                let rows = rows.filter_map(|n| Some((*n, self.rows.get(*n)?)));
                rows.filter(passes).map(key).collect()
            }
            None => self
                .rows
                .iter()
                .enumerate()
                .filter(passes)
                .map(key)
                .collect(),
        };
        if found.len() > listing.limit {
            found.select_nth_unstable(listing.limit.saturating_sub(1));
            found.truncate(listing.limit);
        }
        found.sort_unstable();
        found
    }

    /// Whether a row may be found.
    pub(super) fn is_eligible(
        &self,
        (n, row): (usize, &Row),
        filter: &Filter,
        view: View,
        is_with_quarantined: bool,
    ) -> bool {
        row.is_alive
            && (is_with_quarantined || !label::is_hidden(&row.metadata))
            && view.knows(row.recorded_at)
            && view.holds(row.valid_from, self.valid_to(n, row, view))
            && filter.passes(&Facts {
                kind: row.kind,
                metadata: &row.metadata,
                thread: self.thread_name(n),
                occurred_at: row.occurred_at,
                trust: row.trust,
            })
    }

    /// The end of a row's validity that was believed then.
    fn valid_to(&self, n: usize, row: &Row, view: View) -> Option<Timestamp> {
        let Some(known) = view.known else {
            return row.valid_to;
        };
        let mut believed = self.believed.get(&n).into_iter().flatten();
        let then = believed.find(|before| known < before.until);
        then.map_or(row.valid_to, |before| before.valid_to)
    }
}
