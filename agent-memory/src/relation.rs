//! Relations between memories and entities.

use std::fmt;

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
    #[cfg(feature = "sqlite")]
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

#[cfg(feature = "sqlite")]
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

/// A directed, labeled relation within one namespace. There is at most one per ends and label.
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
}

impl Relation {
    /// The most relations in one call.
    pub const BATCH_MAX: usize = 1_000;

    /// Describes a relation of weight 1.
    #[must_use]
    pub fn new(from: impl Into<Node>, label: impl Into<String>, to: impl Into<Node>) -> Self {
        Self {
            from: from.into(),
            label: label.into(),
            to: to.into(),
            weight: 1.0,
        }
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
        if self.weight > 0.0 && self.weight <= 1.0 {
            Ok(())
        } else {
            Err(Error::invalid(
                "relation",
                "its weight is above 0 and at most 1",
            ))
        }
    }
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
}

impl Walk {
    /// The longest path.
    pub const DEPTH_MAX: usize = 6;
    /// The most paths returned, and the most steps looked at per path returned is bounded by the
    /// namespace.
    pub const LIMIT_MAX: usize = 1_000;

    /// Walks from a node to its neighbours: any label, both directions, depth 1, 100 paths.
    #[must_use]
    pub fn from(node: impl Into<Node>) -> Self {
        Self {
            from: node.into(),
            to: None,
            labels: Vec::new(),
            direction: Direction::default(),
            depth: 1,
            limit: 100,
        }
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
