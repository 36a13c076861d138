//! A deserializer that knows where it is: an error names its line and its full key, whatever type
//! of whichever section refused the value.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Remedy};

/// A mistake on its way to the place that knows its key and offset.
#[derive(Debug)]
pub(super) struct Misplaced {
    error: Box<ConfigError>,
    /// Where in the text, once known.
    at: Option<usize>,
    /// Whether the key is the full one.
    is_placed: bool,
}

impl Misplaced {
    fn new(key: &str, reason: String, remedy: Remedy) -> Self {
        Self {
            error: Box::new(ConfigError::new(key, reason, remedy)),
            at: None,
            is_placed: false,
        }
    }

    /// Sets the key and the place, unless a deeper level did.
    fn placed(mut self, key: &str, at: usize) -> Self {
        if !self.is_placed {
            let missing = std::mem::take(&mut self.error.key);
            self.error.key = join(key, &missing);
            self.at = Some(at);
            self.is_placed = true;
        }
        self
    }

    /// Turns the offset into a line of the text.
    pub(super) fn in_text(self, text: &str) -> ConfigError {
        let mut error = *self.error;
        error.line = self.at.map(|at| line_of(text, at));
        error
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Misplaced {}

impl de::Error for Misplaced {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        let remedy = Remedy::Write("a value the reason allows".to_owned());
        Self::new("", reason.to_string(), remedy)
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number".to_owned(),
            "i64" | "i32" => "a whole number, with or without a sign".to_owned(),
            other => other.to_owned(),
        };
        Self::new("", format!("{found} does not fit"), Remedy::Write(expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let remedy = Remedy::nearest(variant, expected.iter().copied());
        Self::new("", format!("`{variant}` is not known"), remedy)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let remedy = Remedy::nearest(field, expected.iter().copied());
        Self::new("", format!("`{field}` is not known"), remedy)
    }

    fn missing_field(field: &'static str) -> Self {
        let reason = format!("`{field}` is missing");
        Self::new(field, reason, Remedy::Add(field.to_owned()))
    }
}

fn join(key: &str, field: &str) -> String {
    match (key.is_empty(), field.is_empty()) {
        (true, _) => field.to_owned(),
        (_, true) => key.to_owned(),
        _ => format!("{key}.{field}"),
    }
}

fn line_of(text: &str, at: usize) -> u32 {
    let n_before = text.bytes().take(at).filter(|b| *b == b'\n').count();
    u32::try_from(n_before).map_or(u32::MAX, |n| n.saturating_add(1))
}

/// A parsed manifest, or a part of it.
#[derive(Clone)]
pub(super) struct Document<'t> {
    text: &'t str,
    table: DeTable<'t>,
    /// The full key of the table.
    key: String,
    at: usize,
}

impl<'t> Document<'t> {
    /// Parses the text.
    pub(super) fn parse(text: &'t str) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let remedy = Remedy::Write("what the reason expects".to_owned());
            let mut found = ConfigError::new("", error.message(), remedy);
            found.line = error.span().map(|span| line_of(text, span.start));
            found
        })?;
        Ok(Self {
            text,
            table: table.into_inner(),
            key: String::new(),
            at: 0,
        })
    }

    /// Reads a value from the whole table.
    pub(super) fn read<T: Deserialize<'t>>(&self) -> Result<T, ConfigError> {
        let table = Table {
            entries: &self.table,
            key: &self.key,
            at: self.at,
        };
        T::deserialize(table).map_err(|error| error.in_text(self.text))
    }

    /// Returns the document without a table, and that table, which is empty if it is not there.
    /// What has that key and is no table stays.
    pub(super) fn split(&self, key: &str) -> (Self, Self) {
        let mut rest = self.clone();
        let mut part = Self {
            text: self.text,
            table: DeTable::new(),
            key: key.to_owned(),
            at: 0,
        };
        if let Some(found) = self.table.get(key)
            && let DeValue::Table(table) = found.get_ref()
        {
            part.table = table.clone();
            part.at = found.span().start;
            rest.table.remove(key);
        }
        (rest, part)
    }

    /// Returns the tables in it, and the rest.
    pub(super) fn tables(&self) -> (Self, Self) {
        let part = |is_table: bool| {
            let entries = self
                .table
                .iter()
                .filter(|(_, v)| v.get_ref().is_table() == is_table);
            Self {
                table: entries.map(|(k, v)| (k.clone(), v.clone())).collect(),
                ..self.clone()
            }
        };
        (part(true), part(false))
    }

    /// Gives an error its line: that of the key, or of the nearest part of it that is there.
    pub(super) fn locate(&self, mut error: ConfigError) -> ConfigError {
        if error.line.is_some() {
            return error;
        }
        let mut table = Some(&self.table);
        let mut at = None;
        for part in error.key.split('.') {
            let (field, index) = part.split_once('[').unwrap_or((part, ""));
            let Some((key, value)) = table.and_then(|t| t.get_key_value(field)) else {
                break;
            };
            at = Some(key.span().start);
            let index = index.trim_end_matches(']').parse::<usize>().ok();
            let element = index.and_then(|n| value.get_ref().get(n));
            at = element.map_or(at, |element| Some(element.span().start));
            table = value.get_ref().as_table();
        }
        error.line = Some(at.map_or(1, |at| line_of(self.text, at)));
        error
    }
}

/// One table at its place.
#[derive(Clone, Copy)]
struct Table<'a, 't> {
    entries: &'a DeTable<'t>,
    key: &'a str,
    at: usize,
}

/// One value at its place.
struct Value<'a, 't> {
    value: &'a Spanned<DeValue<'t>>,
    key: String,
}

impl<'de> de::Deserializer<'de> for Table<'_, 'de> {
    type Error = Misplaced;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misplaced> {
        let entries = Entries {
            entries: self.entries.iter(),
            key: self.key,
            next: None,
        };
        let read = visitor.visit_map(entries);
        read.map_err(|error| error.placed(self.key, self.at))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<'de> de::Deserializer<'de> for Value<'_, 'de> {
    type Error = Misplaced;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misplaced> {
        let at = self.value.span().start;
        let read = match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_too_large) => Err(de::Error::invalid_value(
                        de::Unexpected::Other(number.as_str()),
                        &"a number of at most 63 bits",
                    )),
                }
            }
            DeValue::Float(number) => {
                visitor.visit_f64(number.as_str().parse().unwrap_or(f64::NAN))
            }
            DeValue::Boolean(flag) => visitor.visit_bool(*flag),
            DeValue::Datetime(moment) => visitor.visit_string(moment.to_string()),
            DeValue::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                key: &self.key,
            }),
            DeValue::Table(entries) => {
                return Table {
                    entries,
                    key: &self.key,
                    at,
                }
                .deserialize_any(visitor);
            }
        };
        read.map_err(|error| error.placed(&self.key, at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misplaced> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misplaced> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misplaced> {
        let at = self.value.span().start;
        let read = match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_enum(text.as_ref().into_deserializer()),
            _ => Err(de::Error::invalid_type(
                de::Unexpected::Other("a value that is no name"),
                &"a name in quotes",
            )),
        };
        read.map_err(|error: Misplaced| error.placed(&self.key, at))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

type Entry<'a, 't> = (
    &'a Spanned<std::borrow::Cow<'t, str>>,
    &'a Spanned<DeValue<'t>>,
);

struct Entries<'a, 't, I: Iterator<Item = Entry<'a, 't>>> {
    entries: I,
    key: &'a str,
    next: Option<Entry<'a, 't>>,
}

impl<'de: 'a, 'a, I: Iterator<Item = Entry<'a, 'de>>> MapAccess<'de> for Entries<'a, 'de, I> {
    type Error = Misplaced;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misplaced> {
        self.next = self.entries.next();
        let Some((key, _)) = self.next else {
            return Ok(None);
        };
        let read = seed.deserialize(key.get_ref().as_ref().into_deserializer());
        read.map(Some).map_err(|error: Misplaced| {
            let full = join(self.key, key.get_ref());
            error.placed(&full, key.span().start)
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misplaced> {
        let Some((key, value)) = self.next.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        let key = join(self.key, key.get_ref());
        // The refusal of a parsed text comes after the value was handed over.
        let (full, at) = (key.clone(), value.span().start);
        let read = seed.deserialize(Value { value, key });
        read.map_err(|error| error.placed(&full, at))
    }
}

struct Items<'a, I> {
    items: I,
    key: &'a str,
}

impl<'de: 'a, 'a, I> SeqAccess<'de> for Items<'a, I>
where
    I: Iterator<Item = (usize, &'a Spanned<DeValue<'de>>)>,
{
    type Error = Misplaced;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misplaced> {
        let Some((n, value)) = self.items.next() else {
            return Ok(None);
        };
        let key = format!("{}[{n}]", self.key);
        let (full, at) = (key.clone(), value.span().start);
        let read = seed.deserialize(Value { value, key });
        read.map(Some).map_err(|error| error.placed(&full, at))
    }
}
