//! The lines as they are written.

use agent_core::{Digest, Principal, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::super::{Item, Kept, Key, Tombstone, Vector};
use crate::error::{Error, Result};
use crate::memory::{Change, Kind, Memory, MemoryId, Provenance, Trust, Verb};
use crate::metadata::Metadata;
use crate::namespace::Namespace;
use crate::relation::{Node, Relation, RelationVersion};

const FORMAT: &str = "agent-memory";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    Header(Header),
    Memory(Box<MemoryLine>),
    Erased(ErasedLine),
    Relation(RelationLine),
    End(End),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: String,
    version: u32,
    space: String,
    dimensions: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) lines: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryLine {
    namespace: String,
    id: MemoryId,
    kind: String,
    text: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    occurred_ms: i64,
    recorded_ms: i64,
    valid_from_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_to_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    superseded_by: Option<MemoryId>,
    actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    trust: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<MemoryId>,
    changes: Vec<ChangeLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<KeyLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<VectorLine>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErasedLine {
    namespace: String,
    id: MemoryId,
    changes: Vec<ChangeLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelationLine {
    namespace: String,
    from: String,
    label: String,
    to: String,
    weight: f32,
    valid_from_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_to_ms: Option<i64>,
    known_from_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_to_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeLine {
    verb: String,
    at_ms: i64,
    actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_to_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<MemoryId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyLine {
    digest: Digest,
    content: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorLine {
    space: String,
    scale: f32,
    bytes: String,
}

impl Header {
    pub(super) fn new(space: String, dimensions: usize) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            space,
            dimensions: u64::try_from(dimensions).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(Error::invalid("export", "its format is `agent-memory`"));
        }
        if self.version != VERSION {
            return Err(Error::invalid("export", "version 1 can be read"));
        }
        Ok(())
    }
}

impl Line {
    /// Reads a line. The error tells the place, not the content, which may be private.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| {
            let what = match e.classify() {
                Category::Eof => "it is cut off",
                Category::Syntax => "it is not JSON",
                Category::Data | Category::Io => "it is not of the format",
            };
            Error::invalid("line", format!("{what}, at byte {}", e.column()))
        })
    }

    pub(super) fn of(at: &Namespace, item: Item) -> Self {
        let namespace = at.as_str().to_owned();
        match item {
            Item::Memory(kept) => Self::Memory(Box::new(MemoryLine::of(namespace, *kept))),
            Item::Erased(tombstone) => Self::Erased(ErasedLine {
                namespace,
                id: tombstone.id,
                changes: tombstone.changes.into_iter().map(ChangeLine::of).collect(),
                keys: tombstone.keys,
            }),
            Item::Relation(version) => Self::Relation(RelationLine::of(namespace, version)),
        }
    }

    pub(super) fn into_item(self) -> Result<(Namespace, Item)> {
        match self {
            Self::Memory(line) => {
                let at = Namespace::new(&line.namespace)?;
                let kept = line.into_kept(&at)?;
                Ok((at, Item::Memory(Box::new(kept))))
            }
            Self::Erased(line) => {
                let tombstone = Tombstone {
                    id: line.id,
                    changes: changes(line.changes)?,
                    keys: line.keys,
                };
                Ok((Namespace::new(&line.namespace)?, Item::Erased(tombstone)))
            }
            Self::Relation(line) => {
                let at = Namespace::new(&line.namespace)?;
                Ok((at, Item::Relation(line.into_version()?)))
            }
            Self::Header(_) | Self::End(_) => Err(Error::invalid("line", "it holds no item")),
        }
    }
}

impl MemoryLine {
    fn of(namespace: String, kept: Kept) -> Self {
        let memory = kept.memory;
        Self {
            namespace,
            id: memory.id,
            kind: memory.kind.as_str().to_owned(),
            text: memory.text,
            metadata: memory.metadata,
            thread: memory.thread,
            occurred_ms: memory.occurred_at.as_unix_ms(),
            recorded_ms: memory.recorded_at.as_unix_ms(),
            valid_from_ms: memory.valid_from.as_unix_ms(),
            valid_to_ms: memory.valid_to.map(Timestamp::as_unix_ms),
            superseded_by: memory.superseded_by,
            actor: memory.provenance.actor.as_str().to_owned(),
            channel: memory.provenance.channel,
            trust: memory.provenance.trust.as_str().to_owned(),
            sources: memory.provenance.sources,
            changes: kept.changes.into_iter().map(ChangeLine::of).collect(),
            keys: kept.keys.into_iter().map(KeyLine::of).collect(),
            vector: kept.vector.map(VectorLine::of),
        }
    }

    fn into_kept(self, at: &Namespace) -> Result<Kept> {
        let ms = Timestamp::from_unix_ms;
        let mut sources = self.sources;
        sources.sort_unstable();
        sources.dedup();
        let key = |key: KeyLine| Key {
            digest: key.digest,
            content: key.content,
        };
        Ok(Kept {
            memory: Memory {
                id: self.id,
                namespace: at.clone(),
                kind: Kind::parse(&self.kind).ok_or(Error::invalid("kind", "it is unknown"))?,
                text: self.text,
                metadata: self.metadata,
                thread: self.thread,
                occurred_at: ms(self.occurred_ms),
                recorded_at: ms(self.recorded_ms),
                valid_from: ms(self.valid_from_ms),
                valid_to: self.valid_to_ms.map(ms),
                superseded_by: self.superseded_by,
                provenance: Provenance {
                    actor: actor(&self.actor)?,
                    channel: self.channel,
                    trust: Trust::named(&self.trust)
                        .ok_or(Error::invalid("trust", "it is unknown"))?,
                    sources,
                },
            },
            changes: changes(self.changes)?,
            keys: self.keys.into_iter().map(key).collect(),
            vector: self.vector.map(VectorLine::into_vector).transpose()?,
        })
    }
}

impl RelationLine {
    fn of(namespace: String, version: RelationVersion) -> Self {
        let relation = version.relation;
        let valid_from = relation.valid_from.unwrap_or(version.known_from);
        Self {
            namespace,
            from: relation.from.to_string(),
            label: relation.label,
            to: relation.to.to_string(),
            weight: relation.weight,
            valid_from_ms: valid_from.as_unix_ms(),
            valid_to_ms: relation.valid_to.map(Timestamp::as_unix_ms),
            known_from_ms: version.known_from.as_unix_ms(),
            known_to_ms: version.known_to.map(Timestamp::as_unix_ms),
        }
    }

    fn into_version(self) -> Result<RelationVersion> {
        let ms = Timestamp::from_unix_ms;
        let node = |text: &str| {
            Node::parse(text)
                .map_err(|_form| Error::invalid("relation", "ends of `memory:` or `entity:`"))
        };
        let relation = Relation::new(node(&self.from)?, self.label, node(&self.to)?)
            .with_weight(self.weight)
            .valid(ms(self.valid_from_ms), self.valid_to_ms.map(ms));
        Ok(RelationVersion {
            relation,
            known_from: ms(self.known_from_ms),
            known_to: self.known_to_ms.map(ms),
        })
    }
}

impl ChangeLine {
    fn of(change: Change) -> Self {
        Self {
            verb: change.verb.as_str().to_owned(),
            at_ms: change.at.as_unix_ms(),
            actor: change.actor.as_str().to_owned(),
            reason: change.reason,
            valid_to_ms: change.valid_to.map(Timestamp::as_unix_ms),
            successor: change.successor,
        }
    }
}

impl KeyLine {
    const fn of(key: Key) -> Self {
        Self {
            digest: key.digest,
            content: key.content,
        }
    }
}

impl VectorLine {
    fn of(vector: Vector) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |n: u8| char::from(DIGITS.get(usize::from(n)).copied().unwrap_or(b'0'));
        let bytes = vector.bytes.iter().map(|byte| byte.cast_unsigned());
        Self {
            space: vector.space,
            scale: vector.scale,
            bytes: bytes
                .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
                .collect(),
        }
    }

    fn into_vector(self) -> Result<Vector> {
        let bad = || Error::invalid("vector", "bytes of two hexadecimal digits");
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(bad()),
        };
        let pairs = self.bytes.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| match pair {
            [high, low] => Ok((digit(high)? << 4 | digit(low)?).cast_signed()),
            _ => Err(bad()),
        });
        Ok(Vector {
            bytes: bytes.collect::<Result<_>>()?,
            space: self.space,
            scale: self.scale,
        })
    }
}

fn actor(name: &str) -> Result<Principal> {
    Principal::new(name).map_err(|e| Error::invalid("actor", e.to_string()))
}

fn changes(lines: Vec<ChangeLine>) -> Result<Vec<Change>> {
    let change = |line: ChangeLine| {
        Ok(Change {
            verb: Verb::parse(&line.verb).ok_or(Error::invalid("verb", "it is unknown"))?,
            at: Timestamp::from_unix_ms(line.at_ms),
            actor: actor(&line.actor)?,
            reason: line.reason,
            valid_to: line.valid_to_ms.map(Timestamp::from_unix_ms),
            successor: line.successor,
        })
    };
    lines.into_iter().map(change).collect()
}
