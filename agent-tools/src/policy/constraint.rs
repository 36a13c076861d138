//! What a rule asks of a call's arguments.

use std::fmt;

use serde_json::{Number, Value};

/// A condition on the argument at a JSON pointer (RFC 6901). An argument that is absent or of
/// another type does not meet it.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    pointer: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    OneOf(Vec<Value>),
    Prefix(String),
    NumberMax(i64),
    LengthMax(usize),
}

impl Constraint {
    fn new(pointer: impl Into<String>, test: Test) -> Self {
        Self {
            pointer: pointer.into(),
            test,
        }
    }

    /// The argument is this value.
    #[must_use]
    pub fn equals(pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::one_of(pointer, [value])
    }

    /// The argument is one of these values.
    #[must_use]
    pub fn one_of<V: Into<Value>>(
        pointer: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::new(pointer, Test::OneOf(values))
    }

    /// The argument is a text that starts with `prefix` and does not leave it: the rest has no
    /// `..` segment, plain or percent-encoded, no backslash and no control character. End the
    /// prefix of a path or URL with `/`, else `https://a.example` also admits
    /// `https://a.example.evil`.
    #[must_use]
    pub fn prefix(pointer: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::new(pointer, Test::Prefix(prefix.into()))
    }

    /// The argument is a number of at most `max`.
    #[must_use]
    pub fn number_max(pointer: impl Into<String>, max: i64) -> Self {
        Self::new(pointer, Test::NumberMax(max))
    }

    /// The argument is a text of at most `max` characters or an array of at most `max` items.
    #[must_use]
    pub fn length_max(pointer: impl Into<String>, max: usize) -> Self {
        Self::new(pointer, Test::LengthMax(max))
    }

    pub(super) fn is_met(&self, arguments: &Value) -> bool {
        let Some(value) = arguments.pointer(&self.pointer) else {
            return false;
        };
        match (&self.test, value) {
            (Test::OneOf(values), value) => values.contains(value),
            (Test::Prefix(prefix), Value::String(text)) => {
                text.strip_prefix(prefix.as_str()).is_some_and(stays_within)
            }
            (Test::NumberMax(max), Value::Number(number)) => is_at_most(number, *max),
            (Test::LengthMax(max), Value::String(text)) => text.chars().count() <= *max,
            (Test::LengthMax(max), Value::Array(items)) => items.len() <= *max,
            _ => false,
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = &self.pointer;
        match &self.test {
            Test::OneOf(values) => {
                write!(
                    f,
                    "`{pointer}` must be one of {}",
                    Value::from(values.clone())
                )
            }
            Test::Prefix(prefix) => write!(f, "`{pointer}` must stay within {prefix:?}"),
            Test::NumberMax(max) => write!(f, "`{pointer}` must be a number of at most {max}"),
            Test::LengthMax(max) => write!(f, "`{pointer}` must have a length of at most {max}"),
        }
    }
}

fn stays_within(rest: &str) -> bool {
    let decoded = rest
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "\\");
    // A second layer of encoding would hide the first from this check.
    !decoded.contains("%25")
        && !decoded.contains(|c: char| c == '\\' || c.is_control())
        && decoded.split('/').all(|segment| segment != "..")
}

/// Compares exactly where the number is an integer.
fn is_at_most(number: &Number, max: i64) -> bool {
    match number.as_i64() {
        Some(number) => number <= max,
        None if number.is_u64() => false,
        None => number
            .as_f64()
            .zip(Number::from(max).as_f64())
            .is_some_and(|(number, max)| number <= max),
    }
}
