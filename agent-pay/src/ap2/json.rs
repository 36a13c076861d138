//! JSON whose numbers stay the text they are: a budget of 19.99 is no float on its way here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::malformed;
use crate::error::Result;

/// The deepest nesting.
const DEPTH_MAX: usize = 24;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// A number as it is written.
    Number(String),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Reads a text. A name twice in one object is refused: readers differ in which they take.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: &RawValue =
            serde_json::from_slice(bytes).map_err(|_form| malformed("not JSON"))?;
        read(raw, DEPTH_MAX)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(super) const fn as_object(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Reads a whole number: digits, perhaps behind a minus, without a leading zero.
    pub(super) fn as_integer(&self) -> Option<i64> {
        let Self::Number(text) = self else {
            return None;
        };
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_whole = digits.bytes().all(|b| b.is_ascii_digit()) && text != "-0";
        text.parse().ok().filter(|_number| is_whole)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }
}

fn read(raw: &RawValue, depth: usize) -> Result<Json> {
    let inner = depth
        .checked_sub(1)
        .ok_or_else(|| malformed("nested too deeply"))?;
    let text = raw.get();
    let bad = |_form| malformed("not JSON");
    Ok(match text.bytes().next() {
        Some(b'n') => Json::Null,
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'"') => Json::Text(serde_json::from_str(text).map_err(bad)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(bad)?;
            let items: Result<Vec<Json>> = items.into_iter().map(|raw| read(raw, inner)).collect();
            Json::Array(items?)
        }
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(text).map_err(bad)?;
            let mut object = BTreeMap::new();
            for (name, raw) in entries {
                if object.insert(name, read(raw, inner)?).is_some() {
                    return Err(malformed("a name twice in an object"));
                }
            }
            Json::Object(object)
        }
        _ => Json::Number(text.to_owned()),
    })
}

/// The entries of an object, each as it is written.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;

        impl<'de> Visitor<'de> for OfObject {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(OfObject).map(Entries)
    }
}
