//! Reading claims, strictly: what is there must be of its form, and nothing may be hidden.

use std::collections::BTreeMap;

use super::json::Json;
use super::malformed;
use super::sd_jwt::HIDDEN;
use crate::error::Result;

/// An object nothing of which is hidden.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a>(&'a BTreeMap<String, Json>);

impl<'a> Claims<'a> {
    pub(super) fn of(value: &'a Json) -> Result<Self> {
        let claims = Self::perhaps_hidden(value)?;
        if claims.0.contains_key(HIDDEN) {
            return Err(malformed("a claim that is hidden"));
        }
        Ok(claims)
    }

    /// An object of which something may be hidden.
    pub(super) fn perhaps_hidden(value: &'a Json) -> Result<Self> {
        value
            .as_object()
            .map(Self)
            .ok_or_else(|| malformed("no object"))
    }

    pub(super) fn get(self, name: &str) -> Option<&'a Json> {
        self.0.get(name)
    }

    pub(super) fn text(self, name: &str) -> Result<&'a str> {
        self.maybe_text(name)?
            .ok_or_else(|| malformed("a text is missing"))
    }

    pub(super) fn maybe_text(self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Text(text)) if !text.is_empty() && text.len() <= 16_384 => Ok(Some(text)),
            Some(_) => Err(malformed("not a text")),
        }
    }

    pub(super) fn integer(self, name: &str) -> Result<i64> {
        self.maybe_integer(name)?
            .ok_or_else(|| malformed("a whole number is missing"))
    }

    pub(super) fn maybe_integer(self, name: &str) -> Result<Option<i64>> {
        match self.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => value
                .as_integer()
                .map(Some)
                .ok_or_else(|| malformed("not a whole number")),
        }
    }

    /// A number as it is written.
    pub(super) fn number(self, name: &str) -> Result<&'a str> {
        match self.get(name) {
            Some(Json::Number(text)) => Ok(text),
            _ => Err(malformed("not a number")),
        }
    }

    /// A list nothing of which is hidden.
    pub(super) fn list(self, name: &str) -> Result<&'a [Json]> {
        let items = self.disclosed(name)?;
        if items.contains(&Json::Null) {
            return Err(malformed("an element that is hidden"));
        }
        Ok(items)
    }

    /// A list of which some may be hidden, which only narrows what it allows.
    pub(super) fn disclosed(self, name: &str) -> Result<&'a [Json]> {
        let items = self.get(name).and_then(Json::as_array);
        items.ok_or_else(|| malformed("a list is missing"))
    }

    /// Reads what is disclosed of a list, at least one.
    pub(super) fn allowed<T>(self, name: &str, read: impl Fn(Self) -> Result<T>) -> Result<Vec<T>> {
        let items = self.disclosed(name)?.iter();
        let shown = items.filter(|item| **item != Json::Null);
        let read: Result<Vec<T>> = shown.map(|item| read(Claims::of(item)?)).collect();
        let read = read?;
        if read.is_empty() {
            return Err(malformed("a list that allows nobody"));
        }
        Ok(read)
    }
}
