//! Relations between memories and entities.

use std::fmt;

use agent_core::Timestamp;

use crate::as_of::AsOf;
use crate::error::{Error, Result};
use crate::memory::MemoryId;

/// An end of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Node {
    /// A memory.
    Memory(MemoryId),
    /// Somebody or something, by name.
    Entity(String),
}

impl Node {
    /// The longest name of an entity in bytes.
    pub const NAME_BYTES_MAX: usize = 256;

    /// Names an entity.
    #[must_use]
    pub fn entity(name: impl Into<String>) -> Self {
        Self::Entity(name.into())
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Entity(name) => check_name("entity", name),
        }
    }

    /// Parses what `Display` writes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("memory", id)) => id.parse().map(Self::Memory).map_err(Error::stored),
            Some(("entity", name)) => Ok(Self::entity(name)),
            _ => Err(Error::corrupt("an end of a relation has no known form")),
        }
    }
}

pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let is_plain = !name.chars().any(char::is_control) && name.trim() == name;
    if (1..=Node::NAME_BYTES_MAX).contains(&name.len()) && is_plain {
        Ok(())
    } else {
        Err(Error::invalid(
            what,
            "1 to 256 bytes without control characters or white space at the ends",
        ))
    }
}

impl Error {
    /// An id in the store that cannot be read.
    pub(crate) fn stored(_source: agent_core::Error) -> Self {
        Self::corrupt("an id has no known form")
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(id) => write!(f, "memory:{id}"),
            Self::Entity(name) => write!(f, "entity:{name}"),
        }
    }
}

impl From<MemoryId> for Node {
    fn from(id: MemoryId) -> Self {
        Self::Memory(id)
    }
}

/// A directed, labeled relation within one namespace. There is at most one per ends, label and
/// start of validity.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Relation {
    /// Where it starts.
    pub from: Node,
    /// What it says, for example `mentions`.
    pub label: String,
    /// Where it ends.
    pub to: Node,
    /// How strong it is, above 0 and at most 1.
    pub weight: f32,
    /// From when it holds; always there in what a store returns.
    pub valid_from: Option<Timestamp>,
    /// Until when it holds.
    pub valid_to: Option<Timestamp>,
}

impl Relation {
    /// The most relations in one call.
    pub const BATCH_MAX: usize = 1_000;

    /// Describes a relation of weight 1 that starts when it is added, without an end.
    #[must_use]
    pub fn new(from: impl Into<Node>, label: impl Into<String>, to: impl Into<Node>) -> Self {
        Self {
            from: from.into(),
            label: label.into(),
            to: to.into(),
            weight: 1.0,
            valid_from: None,
            valid_to: None,
        }
    }

    /// Sets from when to when it holds. Default: from when the relation with these ends and this
    /// label that holds now does; if there is none, from when it is added; without an end.
    #[must_use]
    pub const fn valid(mut self, from: Timestamp, to: Option<Timestamp>) -> Self {
        self.valid_from = Some(from);
        self.valid_to = to;
        self
    }

    /// Ends it: sets until when it holds. Default: no end.
    #[must_use]
    pub const fn until(mut self, to: Timestamp) -> Self {
        self.valid_to = Some(to);
        self
    }

    /// Sets the strength. Default: 1.
    #[must_use]
    pub const fn with_weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.from.check()?;
        self.to.check()?;
        check_name("label of a relation", &self.label)?;
        if self.from == self.to {
            return Err(Error::invalid("relation", "its ends are different"));
        }
        if !(self.weight > 0.0 && self.weight <= 1.0) {
            return Err(Error::invalid(
                "relation",
                "its weight is above 0 and at most 1",
            ));
        }
        self.valid_from.map_or(Ok(()), |from| self.check_end(from))
    }

    /// Whether both have the same ends and label.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.from, &self.label, &self.to) == (&other.from, &other.label, &other.to)
    }

    /// The relation with its start, given what is known at present of the same ends and label;
    /// none if it is there just so.
    pub(crate) fn resolved(mut self, known: &[Self], now: Timestamp) -> Result<Option<Self>> {
        let holds_now = |relation: &&Self| {
            relation.valid_from.is_none_or(|from| from <= now)
                && relation.valid_to.is_none_or(|to| now < to)
        };
        let start = self.valid_from.or_else(|| {
            let holding = known.iter().filter(holds_now);
            holding.filter_map(|relation| relation.valid_from).max()
        });
        let start = start.unwrap_or(now);
        self.valid_from = Some(start);
        self.check_end(start)?;
        Ok((!known.contains(&self)).then_some(self))
    }

    /// Checks the end once the start is known. An end at the start says that it never held.
    pub(crate) fn check_end(&self, from: Timestamp) -> Result<()> {
        if self.valid_to.is_none_or(|to| from <= to) {
            Ok(())
        } else {
            Err(Error::invalid(
                "relation",
                "its validity ends after it starts",
            ))
        }
    }
}

/// A version of a relation as a store keeps it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RelationVersion {
    /// The relation, with its start.
    pub relation: Relation,
    /// Since when the store has known it.
    pub known_from: Timestamp,
    /// When another version took its place.
    pub known_to: Option<Timestamp>,
}

/// Which way relations are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// From start to end.
    Out,
    /// From end to start.
    In,
    /// Both.
    #[default]
    Both,
}

/// A walk along relations.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Walk {
    pub(crate) from: Node,
    pub(crate) to: Option<Node>,
    pub(crate) labels: Vec<String>,
    pub(crate) direction: Direction,
    pub(crate) depth: usize,
    pub(crate) limit: usize,
    pub(crate) as_of: AsOf,
}

impl Walk {
    /// The longest path.
    pub const DEPTH_MAX: usize = 6;
    /// The most paths returned, and the most steps looked at per path returned is bounded by the
    /// namespace.
    pub const LIMIT_MAX: usize = 1_000;

    /// Walks from a node to its neighbours: any label, both directions, depth 1, 100 paths, at
    /// present.
    #[must_use]
    pub fn from(node: impl Into<Node>) -> Self {
        Self {
            from: node.into(),
            to: None,
            labels: Vec::new(),
            direction: Direction::default(),
            depth: 1,
            limit: 100,
            as_of: AsOf::now(),
        }
    }

    /// Walks the relations as of a moment. Default: the present.
    #[must_use]
    pub const fn with_as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = as_of;
        self
    }

    /// Asks only for the path to one node. Default: to every node within the depth.
    #[must_use]
    pub fn to(mut self, node: impl Into<Node>) -> Self {
        self.to = Some(node.into());
        self
    }

    /// Follows only relations with this label, or one given before. Default: any.
    #[must_use]
    pub fn along(mut self, label: impl Into<String>) -> Self {
        self.labels.push(label.into());
        self
    }

    /// Sets the direction. Default: both.
    #[must_use]
    pub const fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Sets the longest path, 1 to [`Walk::DEPTH_MAX`]. Default: 1.
    #[must_use]
    pub const fn with_depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Sets the most paths, 1 to [`Walk::LIMIT_MAX`]. Default: 100.
    #[must_use]
    pub const fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.from.check()?;
        self.to.iter().try_for_each(Node::check)?;
        if !(1..=Self::DEPTH_MAX).contains(&self.depth) {
            return Err(Error::invalid("walk", "a depth of 1 to 6"));
        }
        if !(1..=Self::LIMIT_MAX).contains(&self.limit) {
            return Err(Error::invalid("walk", "a limit of 1 to 1,000"));
        }
        Ok(())
    }
}

/// A shortest path to a node: the relations as stored, in walking order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Path {
    /// Where it leads.
    pub to: Node,
    /// The relations it follows, at least one.
    pub steps: Vec<Relation>,
}
