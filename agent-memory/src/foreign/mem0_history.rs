//! Mem0's `history.db`: what became of each memory, as items with that history.
//!
//! The file is SQLite with one table `history` (`id`, `memory_id`, `old_memory`, `new_memory`,
//! `event`, `created_at`, `updated_at`, `is_deleted`, `actor_id`, `role`), a row for each `ADD`,
//! `UPDATE` and `DELETE`, as `mem0/memory/storage.py` of mem0ai 2.2.1 writes it.

use std::collections::BTreeMap;
use std::path::Path;

use agent_core::{Digest, Principal, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, Row};

use super::{BYTES_MAX, at_entry, time};
use crate::error::{Error, Result};
use crate::memory::{Change, Kind, Memory, MemoryId, Provenance, Trust, Verb};
use crate::metadata::{Metadata, Value, check_value};
use crate::namespace::Namespace;
use crate::portable::{Item, Kept, Tombstone};

const WHAT: &str = "Mem0 history";
/// The longest value that is read: a text beyond a memory's limit is refused with its row.
const VALUE_BYTES_MAX: i32 = 1 << 20;
/// The most rows.
const ROWS_MAX: usize = 1_000_000;

/// One row.
struct Event {
    memory: String,
    old: Option<String>,
    new: Option<String>,
    event: String,
    created_at: Option<String>,
    updated_at: Option<String>,
    labels: [Option<String>; 2],
}

impl Event {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            memory: row.get(0)?,
            old: row.get(1)?,
            new: row.get(2)?,
            event: row.get(3)?,
            created_at: row.get(4)?,
            updated_at: row.get(5)?,
            labels: [row.get(6)?, row.get(7)?],
        })
    }
}

/// Reads what became of each memory, for [`Portable::take`](crate::portable::Portable::take) into
/// `at`: a fact for each text it had, replaced by the next when Mem0 updated it, at the times Mem0
/// noted. Taking it again takes nothing.
///
/// What Mem0 deleted was meant to go, though its history keeps the text: of such a memory only
/// tombstones without texts are read. The file names no owners; `is_wanted` says of an id, as
/// `get_all` names it, whether it belongs into `at`. Items of [`mem0`](super::mem0) are other
/// memories than these: import one or the other. Runs on the caller's thread and only reads.
///
/// # Errors
/// `Invalid` for a file that is no such database, is larger than [`BYTES_MAX`], or has more than
/// 1,000,000 rows; [`Error::Import`] with the number of the row: `Invalid` for an event Mem0 does
/// not write, a text beyond the limits, or a first event without a time.
pub fn mem0_history(
    file: &Path,
    at: &Namespace,
    actor: &Principal,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Item>> {
    let bad = |e: rusqlite::Error| Error::invalid(WHAT, e.to_string());
    let connection = open(file)?;
    let mut select = connection
        .prepare(
            "SELECT memory_id, old_memory, new_memory, event, created_at, updated_at, actor_id, role
             FROM history ORDER BY rowid",
        )
        .map_err(bad)?;
    let rows = select.query_map([], Event::read).map_err(bad)?;
    let mut lives: BTreeMap<String, Life> = BTreeMap::new();
    for (n, row) in rows.enumerate() {
        let event = row.map_err(bad)?;
        if n >= ROWS_MAX {
            return Err(Error::invalid(WHAT, "at most 1,000,000 rows"));
        }
        if is_wanted(&event.memory) {
            let life = lives.entry(event.memory.clone()).or_default();
            life.live(at, actor, &event)
                .map_err(|e| at_entry(n + 1, e))?;
        }
    }
    let mut items: Vec<(Timestamp, Item)> =
        lives.into_values().flat_map(|life| life.items).collect();
    items.sort_by_key(|(recorded_at, _)| *recorded_at);
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

/// Opens a stranger's database: nothing in it is run, and reading it ends.
fn open(file: &Path) -> Result<Connection> {
    let bad = |e: rusqlite::Error| Error::invalid(WHAT, e.to_string());
    let size = std::fs::metadata(file).map_err(|e| Error::invalid(WHAT, e.to_string()))?;
    if !size.is_file() || size.len() > u64::try_from(BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(Error::invalid(WHAT, "a file of at most 268,435,456 bytes"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags).map_err(bad)?;
    for (config, is_on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    ] {
        connection.set_db_config(config, is_on).map_err(bad)?;
    }
    connection
        .set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
        .map_err(bad)?;
    // A view by this name could compute for ever.
    let is_table: bool = connection
        .query_row(
            "SELECT count(*) = 1 FROM sqlite_schema
             WHERE name = 'history' AND type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'",
            [],
            |row| row.get(0),
        )
        .map_err(bad)?;
    if !is_table {
        return Err(Error::invalid(WHAT, "it has no table `history`"));
    }
    Ok(connection)
}

/// What became of a memory so far.
#[derive(Default)]
struct Life {
    items: Vec<(Timestamp, Item)>,
    /// Where the version that holds is among the items.
    current: Option<usize>,
    last_at: Option<Timestamp>,
}

impl Life {
    fn live(&mut self, at: &Namespace, actor: &Principal, event: &Event) -> Result<()> {
        let when = self.when(event)?;
        match (event.event.as_str(), &event.new) {
            ("ADD" | "UPDATE", Some(new)) => {
                if let (None, "UPDATE", Some(old)) =
                    (self.current, event.event.as_str(), &event.old)
                {
                    // Its beginning is not in the file.
                    let created = event.created_at.as_deref().and_then(time::parse);
                    let began = created.unwrap_or(when).min(when);
                    self.begin(at, actor, event, old, began)?;
                }
                self.begin(at, actor, event, new, when)
            }
            ("DELETE", _) => {
                self.bury(actor, when);
                Ok(())
            }
            ("NONE" | "NOOP", _) => Ok(()),
            _ => Err(Error::invalid("event", "neither ADD, UPDATE nor DELETE")),
        }
    }

    /// When an event was: never before the one before it.
    fn when(&mut self, event: &Event) -> Result<Timestamp> {
        let [created, updated] = [&event.created_at, &event.updated_at]
            .map(|text| text.as_deref().and_then(time::parse));
        let noted = if event.event == "ADD" {
            created.or(updated)
        } else {
            updated.or(created)
        };
        let when = noted.max(self.last_at);
        self.last_at = when;
        when.ok_or_else(|| Error::invalid("event", "it has no time"))
    }

    /// Adds a version; it replaces the one that holds.
    fn begin(
        &mut self,
        at: &Namespace,
        actor: &Principal,
        event: &Event,
        text: &str,
        when: Timestamp,
    ) -> Result<()> {
        let name = format!("mem0 history\n{at}\n{}\n{}", event.memory, self.items.len());
        let id = MemoryId::from_bits(Digest::of_bytes(name.as_bytes()).to_bits());
        let change = |verb| Change {
            verb,
            at: when,
            actor: actor.clone(),
            reason: Some(format!("{} in mem0", event.event)),
            valid_to: None,
            successor: None,
        };
        if let Some((_, Item::Memory(old))) = self.current.and_then(|n| self.items.get_mut(n)) {
            old.memory.valid_to = Some(when);
            old.memory.superseded_by = Some(id);
            old.changes.push(Change {
                valid_to: Some(when),
                successor: Some(id),
                ..change(Verb::Superseded)
            });
        }
        let kept = Kept {
            memory: Memory {
                id,
                namespace: at.clone(),
                kind: Kind::Fact,
                text: text.to_owned(),
                metadata: labels(event),
                thread: None,
                occurred_at: when,
                recorded_at: when,
                valid_from: when,
                valid_to: None,
                superseded_by: None,
                provenance: Provenance {
                    actor: actor.clone(),
                    channel: Some("mem0".to_owned()),
                    trust: Trust::Normal,
                    sources: Vec::new(),
                },
            },
            changes: vec![change(Verb::Added)],
            keys: Vec::new(),
            vector: None,
        };
        let item = Item::Memory(Box::new(kept));
        item.check(at)?;
        self.current = Some(self.items.len());
        self.items.push((when, item));
        Ok(())
    }

    /// Leaves of every version only that it was there.
    fn bury(&mut self, actor: &Principal, when: Timestamp) {
        for (_, item) in &mut self.items {
            let Item::Memory(kept) = item else { continue };
            let mut changes = std::mem::take(&mut kept.changes);
            for change in &mut changes {
                change.reason = None;
            }
            changes.push(Change {
                verb: Verb::Erased,
                at: when,
                actor: actor.clone(),
                reason: Some("DELETE in mem0".to_owned()),
                valid_to: None,
                successor: None,
            });
            *item = Item::Erased(Tombstone {
                id: kept.memory.id,
                changes,
                keys: Vec::new(),
            });
        }
        self.current = None;
    }
}

fn labels(event: &Event) -> Metadata {
    let mut labels = Metadata::from([("mem0.id".to_owned(), Value::from(event.memory.as_str()))]);
    for (name, value) in ["mem0.actor_id", "mem0.role"]
        .into_iter()
        .zip(&event.labels)
    {
        labels.extend(
            value
                .as_ref()
                .map(|v| (name.to_owned(), Value::from(v.as_str()))),
        );
    }
    // What is too long for a label is left out, as in the other imports.
    labels.retain(|_, value| check_value(value).is_ok());
    labels
}
