//! The policies of a tree as configuration: TOML text, or the same types built in Rust.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::policy::Policy;
use crate::budget::BudgetPath;

/// The policies of the nodes of a tree.
///
/// ```
/// use agent_pay::authority::PolicyBook;
/// let book: PolicyBook = r#"
/// [node.acme]
/// limits = ["100.00 USD lifetime", "20.00 USD day +02:00", "60 count rolling 1m"]
/// approvers = ["human:alice"]
///
/// [node."acme/a"]
/// alone_up_to = "5.00 USD"
///
/// [node."acme/b"]
/// alone_up_to = "0 USD"
/// "#.parse()?;
/// assert_eq!(book.nodes().count(), 3);
/// # Ok::<(), agent_pay::authority::PolicyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyBook {
    nodes: BTreeMap<BudgetPath, Policy>,
}

/// A policy does not make sense at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyError {
    /// The line in the text, counted from one; none for a policy built in Rust.
    pub line: Option<u32>,
    /// The full key, such as `node."acme/a".limits`; empty if the text is no TOML at all.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What to do about a policy that does not make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// This key or table is to be added.
    Add(String),
    /// A value of this form.
    Write(&'static str),
    /// Nothing: the key or value is to be taken out.
    Remove,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(what) => write!(f, "add `{what}`"),
            Self::Write(form) => write!(f, "write {form}"),
            Self::Remove => f.write_str("take it out"),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl std::error::Error for PolicyError {}

impl PolicyBook {
    /// The longest text in bytes: ten thousand nodes fit.
    pub const TEXT_BYTES_MAX: usize = 4 << 20;

    /// An empty book: nothing may be spent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the policy of a node, whose parent is in the book already.
    ///
    /// # Errors
    /// The key, what is wrong, and what to do.
    pub fn with(mut self, node: BudgetPath, policy: Policy) -> Result<Self, PolicyError> {
        check_node(&self.nodes, &node, &policy)?;
        self.nodes.insert(node, policy);
        Ok(self)
    }

    /// Iterates over the nodes, parents before their children.
    pub fn nodes(&self) -> impl Iterator<Item = (&BudgetPath, &Policy)> {
        self.nodes.iter()
    }
}

fn check_node(
    nodes: &BTreeMap<BudgetPath, Policy>,
    node: &BudgetPath,
    policy: &Policy,
) -> Result<(), PolicyError> {
    if let Some(parent) = node.parent()
        && !nodes.contains_key(&parent)
    {
        return Err(PolicyError {
            line: None,
            key: format!("node.\"{node}\""),
            reason: format!("there is no node \"{parent}\" above"),
            remedy: Remedy::Add(format!("[node.\"{parent}\"]")),
        });
    }
    policy.check().map_err(|(key, reason)| PolicyError {
        line: None,
        key: format!("node.\"{node}\".{key}"),
        reason,
        remedy: remedy(key),
    })
}

fn remedy(key: &str) -> Remedy {
    Remedy::Write(match key {
        "limits" => {
            "limits such as `\"20.00 USD day +02:00\"`, `\"5.00 USD rolling 1h\"`, \
             `\"30 count rolling 10m\"`, each of its own kind"
        }
        "alone_up_to" => "an amount such as `\"5.00 USD\"`",
        "payees" | "categories" | "rails" => "names, or beginnings of names followed by `*`",
        "assets" => "assets such as `\"USD\"` or `\"JPY/0\"`",
        "first_payee" => "`\"allow\"`, `\"ask\"` or `\"deny\"`",
        "quorum" => "a number from 1 to the number of approvers",
        "approvers" | "owner" => "names such as `\"human:alice\"`",
        "approval_seconds" => "a number of seconds from 1",
        _ => {
            "one of `owner`, `limits`, `alone_up_to`, `payees`, `categories`, `rails`, `assets`, \
             `first_payee`, `approvers`, `quorum`, `approval_seconds`"
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    node: BTreeMap<String, Policy>,
}

impl std::str::FromStr for PolicyBook {
    type Err = PolicyError;

    /// Reads TOML: a table `[node."path"]` for each node.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.len() > Self::TEXT_BYTES_MAX {
            return Err(PolicyError {
                line: None,
                key: String::new(),
                reason: "more than 4 MiB".to_owned(),
                remedy: Remedy::Remove,
            });
        }
        let written: Written = toml::from_str(text).map_err(|e| syntax(text, &e))?;
        let mut nodes = BTreeMap::new();
        for (path, policy) in written.node {
            let place = |mut error: PolicyError| {
                error.line = Places::of(text).line(&error.key);
                error
            };
            let node = BudgetPath::new(&path).map_err(|e| {
                place(PolicyError {
                    line: None,
                    key: format!("node.\"{path}\""),
                    reason: e.to_string(),
                    remedy: Remedy::Write("a path such as `\"acme/sales/a\"`"),
                })
            })?;
            check_node(&nodes, &node, &policy).map_err(place)?;
            nodes.insert(node, policy);
        }
        Ok(Self { nodes })
    }
}

/// Places an error of the TOML reader: its line, and the key that is written there.
fn syntax(text: &str, error: &toml::de::Error) -> PolicyError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let n_lines = before.matches('\n').count();
    let line = u32::try_from(n_lines).ok().and_then(|n| n.checked_add(1));
    let key = Places::of(text).key(line.unwrap_or(0));
    let last = key.rsplit('.').next().unwrap_or("");
    PolicyError {
        line,
        remedy: remedy(last),
        reason: error.message().trim().replace('\n', ", "),
        key,
    }
}

/// Which key is written on which line.
struct Places(Vec<(u32, String)>);

impl Places {
    fn of(text: &str) -> Self {
        let (mut places, mut table) = (Vec::new(), String::new());
        for (line, written) in (1_u32..).zip(text.lines()) {
            let written = written.trim();
            if let Some(name) = written
                .strip_prefix('[')
                .and_then(|name| name.split(']').next())
            {
                table = quoted(name);
                places.push((line, table.clone()));
            } else if let Some((key, _value)) = written.split_once('=')
                && !key.contains(['"', '#', '['])
            {
                places.push((line, format!("{table}.{}", key.trim())));
            }
        }
        Self(places)
    }

    fn line(&self, key: &str) -> Option<u32> {
        let table = key
            .rsplit_once("\".")
            .map(|(table, _)| format!("{table}\""));
        let of = |key: &str| self.0.iter().find(|(_, found)| found == key);
        let place = of(key).or_else(|| of(table.as_deref()?));
        place.map(|(line, _)| *line)
    }

    /// Returns the last key at or before a line: a value may run over several.
    fn key(&self, line: u32) -> String {
        let before = self.0.iter().rev().find(|(at, _)| *at <= line);
        before.map_or_else(String::new, |(_, key)| key.clone())
    }
}

/// Writes the name of a table as errors do, with the path in quotes.
fn quoted(name: &str) -> String {
    match name.split_once('.') {
        Some((first, path)) if !path.starts_with('"') => format!("{first}.\"{path}\""),
        _ => name.to_owned(),
    }
}
