//! JSON Schema (2020-12), compiled once, with violations a model can act on; and the strict
//! reading of arguments that arrive as text.

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result, Violation};
use crate::limits::{clip, measure};

/// Returns the schema of the JSON that `T` is read from.
#[must_use]
pub fn input_of<T: JsonSchema>() -> Value {
    generate::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// Returns the schema of the JSON that `T` is written as.
#[must_use]
pub fn output_of<T: JsonSchema>() -> Value {
    generate::<T>(SchemaSettings::draft2020_12().for_serialize())
}

/// Leaves out the dialect and the type's name: a model pays for each of them on every call.
fn generate<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| settings.meta_schema = None);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

/// A compiled schema.
///
/// References outside the schema are refused, never fetched, and patterns run in linear time. A
/// schema whose references multiply (`allOf` twice the same, twenty levels deep) can still take
/// exponential time: compile schemas of the host's own, not of a peer.
#[derive(Debug)]
pub struct Schema {
    source: Value,
    validator: Validator,
}

impl Schema {
    /// The most violations reported at once: a model repairs a few at a time.
    pub const VIOLATIONS_MAX: usize = 8;
    /// The largest schema, counted like [arguments](crate::Limits::with_arguments_bytes_max): ten
    /// times what the largest operations of public APIs need.
    pub const BYTES_MAX: usize = 1 << 20;
    /// The most levels of a schema: the compiler recurses, and 2,000 levels exhaust a stack.
    pub const DEPTH_MAX: usize = 64;
    /// The most memory a pattern may take when compiled.
    const PATTERN_BYTES_MAX: usize = 1 << 20;

    /// Compiles a schema; `name` is the tool it belongs to, for errors.
    ///
    /// # Errors
    /// `Invalid` if the schema is not one, exceeds [`Self::BYTES_MAX`] or [`Self::DEPTH_MAX`], or
    /// refers to something outside itself.
    pub fn compile(name: &str, source: Value) -> Result<Self> {
        if measure(&source, Self::BYTES_MAX, Self::DEPTH_MAX).is_err() {
            let reason = "its schema is too long or too deep";
            return Err(Error::invalid_definition(name, reason));
        }
        let patterns = PatternOptions::regex()
            .size_limit(Self::PATTERN_BYTES_MAX)
            .dfa_size_limit(Self::PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .offline()
            .build(&source)
            .map_err(|e| {
                let reason = format!("its schema is invalid: {}", clip(&e.to_string(), 400));
                Error::invalid_definition(name, reason)
            })?;
        Ok(Self { source, validator })
    }

    /// Returns the schema as JSON.
    #[must_use]
    pub const fn as_value(&self) -> &Value {
        &self.source
    }

    /// Checks a value. The caller has [bounded](crate::Limits::check_arguments) its depth.
    ///
    /// # Errors
    /// Up to [`Self::VIOLATIONS_MAX`] violations in the schema's order.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        let violations: Vec<_> = self
            .validator
            .iter_errors(value)
            .take(Self::VIOLATIONS_MAX)
            .map(|error| self.violation(&error))
            .collect();
        if violations.is_empty() {
            Ok(())
        } else {
            Err(violations)
        }
    }

    fn violation(&self, error: &ValidationError<'_>) -> Violation {
        let path = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let expected = format!("the property {property}");
                Violation::new(path, &expected, "nothing")
            }
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                let got = format!("the properties {unexpected:?}");
                Violation::new(path, "no further properties", &got)
            }
            kind => {
                // The keyword with its value is the shortest exact statement of the rule.
                let rule = self.source.pointer(error.schema_path().as_str());
                let rule = rule.map_or_else(String::new, |rule| format!(" {rule}"));
                let expected = format!("{}{rule}", kind.keyword());
                Violation::new(path, &expected, &error.instance().to_string())
            }
        }
    }
}

/// Reads arguments that arrive as text, as most model APIs send them.
///
/// Stricter than plain JSON reading: an object that has a key twice is refused, since a policy
/// and a tool might each take another one of the two.
///
/// # Errors
/// `Invalid` for text that is not JSON, is nested deeper than 127 levels, has a number out of
/// range, or has a key twice.
pub fn parse_arguments(tool: &str, text: &str) -> Result<Value> {
    let refuse = |error: serde_json::Error| {
        let got = clip(text, Violation::FIELD_BYTES_MAX);
        let violation = Violation::new("", &format!("JSON ({error})"), &got);
        Error::invalid_arguments(tool, vec![violation])
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader).map_err(refuse)?;
    reader.end().map_err(refuse)?;
    Ok(value)
}

/// Reads any JSON value without duplicate keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {:?} stands twice",
                    clip(&key, 40)
                )));
            }
            let field = fields.next_value_seed(Self)?;
            object.insert(key, field);
        }
        Ok(object.into())
    }
}
