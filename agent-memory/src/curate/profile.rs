//! What is believed, slot by slot.

use agent_core::{Scope, Timestamp};

use super::apply::text_of;
use super::draft::value_key;
use super::{Curator, labels};
use crate::error::Result;
use crate::extract::Slot;
use crate::memory::{Kind, Memory};
use crate::metadata::label;
use crate::namespace::Namespace;
use crate::query::{Filter, Listing, Test};
use crate::store::MemoryStore;

/// A slot and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Whose, and what.
    pub slot: Slot,
    /// The value as it was said.
    pub value: String,
    /// The record that says so.
    pub record: Memory,
}

impl<S: MemoryStore> Curator<S> {
    /// Returns what a slot with a single value holds at a moment, by one lookup of the slot,
    /// however many memories there are. What is in quarantine is not believed.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn value(
        &self,
        scope: &Scope,
        at: &Namespace,
        slot: &Slot,
        when: Timestamp,
    ) -> Result<Option<Entry>> {
        let records = self.records(scope, at, &slot.key()).await?;
        Ok(holding(records, when).and_then(entry))
    }

    /// Returns whether a slot with many values has this one at a moment, and by which record.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn one_of(
        &self,
        scope: &Scope,
        at: &Namespace,
        (slot, value): (&Slot, &str),
        when: Timestamp,
    ) -> Result<Option<Entry>> {
        let records = self.records(scope, at, &value_key(slot, value)).await?;
        Ok(holding(records, when).and_then(entry))
    }

    /// Returns every slot of a subject and what it holds at present, in the order of the slots and
    /// values.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn profile(
        &self,
        scope: &Scope,
        at: &Namespace,
        subject: &str,
    ) -> Result<Vec<Entry>> {
        let subject = crate::extract::normalized(subject);
        let filter = Filter::new()
            .kind(Kind::Fact)
            .kind(Kind::Preference)
            .label(labels::SUBJECT, Test::Is(subject.as_str().into()));
        let found = self
            .pages(scope, at, Listing::new().with_filter(filter))
            .await?;
        let mut entries: Vec<Entry> = found.into_iter().filter_map(entry).collect();
        entries.sort_by(|a, b| (&a.slot, &a.value).cmp(&(&b.slot, &b.value)));
        Ok(entries)
    }
}

/// The record that holds at a moment; where validities overlap, the one that began later.
fn holding(records: Vec<Memory>, when: Timestamp) -> Option<Memory> {
    let holds =
        |memory: &Memory| memory.valid_from <= when && memory.valid_to.is_none_or(|to| when < to);
    records
        .into_iter()
        .filter(holds)
        .max_by_key(|memory| (memory.valid_from, memory.id))
}

fn entry(record: Memory) -> Option<Entry> {
    let subject = text_of(&record, labels::SUBJECT)?;
    let attribute = text_of(&record, labels::ATTRIBUTE)?;
    text_of(&record, label::SLOT)?;
    Some(Entry {
        slot: Slot { subject, attribute },
        value: text_of(&record, labels::VALUE)?,
        record,
    })
}
