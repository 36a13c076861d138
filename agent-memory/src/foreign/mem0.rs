//! Mem0: what `Memory.get_all` returns, and points of its Qdrant collection.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Entry, Foreign, at_entry, labeled, parsed, time};
use crate::error::{Error, Result};
use crate::memory::Kind;

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Results { results: Vec<Item> },
    Points { points: Vec<Point> },
    Scrolled { result: Scroll },
    List(Vec<Item>),
}

#[derive(Deserialize)]
struct Scroll {
    points: Vec<Point>,
}

/// A point of the collection; its payload holds the memory's parts beside its labels.
#[derive(Deserialize)]
struct Point {
    id: Json,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: String,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

/// Members of a payload that are no labels of the memory.
const OWN: [&str; 4] = ["hash", "updated_at", "text_lemmatized", "metadata"];

#[derive(Deserialize)]
struct Item {
    id: String,
    memory: String,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct Rest {
    #[serde(default)]
    metadata: Option<Map<String, Json>>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    actor_id: Option<String>,
    #[serde(default)]
    role: Option<String>,
}

/// Reads what `get_all` returned, as `{"results": [...]}` or a list, or points of the Qdrant
/// collection as its `scroll` returns them. Each memory is a fact that happened when it was
/// created; its owner is the user, the agent and the run that are named, each after `user:`,
/// `agent:` or `run:`.
///
/// # Errors
/// [`Error::Import`] with the number of the memory: `Invalid` for a text beyond the limits;
/// `Invalid` for a file of another form.
pub fn mem0(json: &[u8]) -> Result<Vec<Foreign>> {
    let items: Vec<(String, String, Rest)> = match parsed(json, "Mem0 export")? {
        File::Results { results } | File::List(results) => {
            let parts = |item: Item| (item.id, item.memory, item.rest);
            results.into_iter().map(parts).collect()
        }
        File::Points { points }
        | File::Scrolled {
            result: Scroll { points },
        } => points.into_iter().map(of_point).collect(),
    };
    let foreign = |(n, (id, text, rest)): (usize, (String, String, Rest))| {
        of_parts(&id, &text, rest).map_err(|e| at_entry(n + 1, e))
    };
    items.into_iter().enumerate().map(foreign).collect()
}

fn of_point(point: Point) -> (String, String, Rest) {
    let id = match point.id {
        Json::String(id) => id,
        other => other.to_string(),
    };
    let mut labels = point.payload.rest;
    let mut text = |name: &str| match labels.remove(name) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    };
    let rest = Rest {
        created_at: text("created_at"),
        user_id: text("user_id"),
        agent_id: text("agent_id"),
        run_id: text("run_id"),
        actor_id: text("actor_id"),
        role: text("role"),
        metadata: None,
    };
    for name in OWN {
        labels.remove(name);
    }
    let rest = Rest {
        metadata: Some(labels),
        ..rest
    };
    (id, point.payload.data, rest)
}

fn of_parts(id: &str, text: &str, rest: Rest) -> Result<Foreign> {
    let entry = Entry {
        system: "mem0",
        id,
        kind: Kind::Fact,
        text,
        at: rest.created_at.as_deref().and_then(time::parse),
    };
    let mut labels = rest.metadata.unwrap_or_default();
    for (name, value) in [("actor_id", rest.actor_id), ("role", rest.role)] {
        if let Some(value) = value {
            labels.insert(name.to_owned(), Json::String(value));
        }
    }
    let owner = [
        ("user", rest.user_id),
        ("agent", rest.agent_id),
        ("run", rest.run_id),
    ];
    let owner: Vec<String> = owner
        .into_iter()
        .filter_map(|(what, id)| Some(format!("{what}:{}", id?)))
        .collect();
    if owner.is_empty() {
        return Err(Error::invalid("memory", "it names no user, agent or run"));
    }
    Ok(Foreign {
        owner,
        draft: labeled(entry.draft()?, "mem0", &labels),
    })
}
