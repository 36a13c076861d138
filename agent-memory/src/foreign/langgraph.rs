//! `LangGraph`: items of a store as `Item.dict()` gives them, which is where `LangMem` keeps memories.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Entry, Foreign, at_entry, labeled, parsed, time};
use crate::error::Result;
use crate::memory::Kind;

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Items { items: Vec<Item> },
    List(Vec<Item>),
}

#[derive(Deserialize)]
struct Item {
    namespace: Vec<String>,
    key: String,
    value: Map<String, Json>,
    #[serde(default)]
    created_at: Option<String>,
}

/// Reads items, as a list or as the `items` of a search. The owner is the namespace. The text is
/// the `content` of a value, or its `content` in turn where `LangMem` keeps a typed memory; a value
/// without one is kept as its JSON. A value of `kind` `Episode` is an event, any other a fact.
///
/// # Errors
/// [`Error::Import`](crate::Error::Import) with the number of the item: `Invalid` for a text beyond
/// the limits; `Invalid` for a file of another form.
pub fn langgraph(json: &[u8]) -> Result<Vec<Foreign>> {
    let items = match parsed(json, "items of a store")? {
        File::Items { items } | File::List(items) => items,
    };
    let foreign = |(n, item): (usize, Item)| of(&item).map_err(|e| at_entry(n + 1, e));
    items.into_iter().enumerate().map(foreign).collect()
}

fn of(item: &Item) -> Result<Foreign> {
    let content = item.value.get("content");
    let inner = content.and_then(|content| content.get("content"));
    let text = match inner.or(content) {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => Json::Object(item.value.clone()).to_string(),
    };
    let kind = item.value.get("kind").and_then(Json::as_str);
    let id = Json::from([item.namespace.join("\0"), item.key.clone()].to_vec()).to_string();
    let entry = Entry {
        system: "langgraph",
        id: &id,
        kind: if kind == Some("Episode") {
            Kind::Event
        } else {
            Kind::Fact
        },
        text: &text,
        at: item.created_at.as_deref().and_then(time::parse),
    };
    let mut labels = item.value.clone();
    labels.remove("content");
    labels.insert("key".to_owned(), Json::String(item.key.clone()));
    Ok(Foreign {
        owner: item.namespace.clone(),
        draft: labeled(entry.draft()?, "langgraph", &labels),
    })
}
