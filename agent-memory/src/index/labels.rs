//! Rows by the labels that curation looks up: slot and subject. A slot or a profile is read without
//! a look at any other row.

use std::collections::HashMap;

use crate::curate::labels::SUBJECT;
use crate::metadata::{Metadata, Value, label};

/// The labels looked up, the more telling first.
pub(crate) const INDEXED: [&str; 2] = [label::SLOT, SUBJECT];

/// Rows in their order, by an indexed label and its value.
#[derive(Default)]
pub(super) struct Labels {
    rows: HashMap<(&'static str, String), Vec<usize>>,
}

impl Labels {
    pub(super) fn insert(&mut self, row: usize, labels: &Metadata) {
        for (name, value) in indexed(labels) {
            let rows = self.rows.entry((name, value.to_owned())).or_default();
            let place = rows.partition_point(|other| *other < row);
            if rows.get(place) != Some(&row) {
                rows.insert(place, row);
            }
        }
    }

    pub(super) fn remove(&mut self, row: usize, labels: &Metadata) {
        for (name, value) in indexed(labels) {
            let key = (name, value.to_owned());
            if let Some(rows) = self.rows.get_mut(&key) {
                rows.retain(|other| *other != row);
                if rows.is_empty() {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// The rows with a value of an indexed label.
    pub(super) fn rows(&self, name: &'static str, value: &str) -> &[usize] {
        let rows = self.rows.get(&(name, value.to_owned()));
        rows.map_or(&[], Vec::as_slice)
    }
}

fn indexed(labels: &Metadata) -> impl Iterator<Item = (&'static str, &str)> {
    INDEXED.iter().filter_map(|name| match labels.get(*name) {
        Some(Value::Text(value)) => Some((*name, value.as_str())),
        _ => None,
    })
}
