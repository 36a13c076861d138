//! What is about to happen: the description a gate decides on, a human approves and a journal
//! keeps, with a digest that names exactly this effect.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::error::{Error, Result};

/// The largest integer every JSON reader takes exactly (RFC 8785, section 6; RFC 7493).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Writes a value as canonical JSON (JCS, RFC 8785): what is digested and signed.
///
/// # Errors
/// `Invalid` if the value has no JSON form, or holds an integer beyond 2^53 - 1, which JCS would
/// round: two different values would look the same. Carry such numbers as text.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let invalid = |e: serde_json::Error| Error::invalid("canonical JSON", e.to_string());
    if !is_exact(&serde_json::to_value(value).map_err(invalid)?) {
        let reason = "an integer is beyond 2^53 - 1; carry it as text";
        return Err(Error::invalid("canonical JSON", reason));
    }
    serde_json_canonicalizer::to_vec(value).map_err(invalid)
}

fn is_exact(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(positive), _) => positive <= INTEGER_MAX,
            (None, Some(negative)) => negative.unsigned_abs() <= INTEGER_MAX,
            (None, None) => true,
        },
        serde_json::Value::Array(items) => items.iter().all(is_exact),
        serde_json::Value::Object(members) => members.values().all(is_exact),
        _ => true,
    }
}

/// A BLAKE3 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digests bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Digests a value's canonical JSON (JCS, RFC 8785), so that key order and white space do not
    /// matter.
    ///
    /// # Errors
    /// Those of [`canonical_json`].
    pub fn of_json<T: Serialize>(value: &T) -> Result<Self> {
        canonical_json(value).map(|bytes| Self::of_bytes(&bytes))
    }

    /// Takes a digest computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 16 bytes as a number, for ids derived from a digest.
    #[must_use]
    pub fn to_bits(self) -> u128 {
        self.0
            .iter()
            .take(16)
            .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digest = blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|e| Error::invalid("digest", e.to_string()))?;
        // One text per digest: it is compared and stored as text too.
        if digest.to_string() == text {
            Ok(digest)
        } else {
            Err(Error::invalid("digest", "expected lower-case digits"))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// What recovery may do with an effect whose outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EffectClass {
    /// Changes nothing outside: repeat it freely.
    Pure,
    /// The other side recognizes the idempotency key: repeat it with the same key.
    Idempotent,
    /// The other side can be asked by key whether it happened.
    Probeable,
    /// Neither: only a person can decide.
    Opaque,
}

/// An effect an agent wants to cause, on whatever layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Effect {
    /// What is done, `layer.verb` in lower case: `sandbox.exec`, `tool.call`, `pay.transfer`.
    pub action: String,
    /// What it is done to: a tool's name, a payee, a guest module, a path.
    pub target: String,
    /// What recovery may do when the outcome is not known.
    pub class: EffectClass,
    /// The arguments that make this effect what it is. They are journaled: no secrets.
    pub arguments: serde_json::Value,
    /// The most it may cost; nothing is reserved if absent.
    pub cost_max: Option<Amount>,
}

impl Effect {
    /// The version of the digested form.
    const DIGEST_VERSION: u32 = 1;

    /// Describes an effect that costs nothing.
    #[must_use]
    pub fn new(
        action: impl Into<String>,
        target: impl Into<String>,
        class: EffectClass,
        arguments: serde_json::Value,
    ) -> Self {
        Self {
            action: action.into(),
            target: target.into(),
            class,
            arguments,
            cost_max: None,
        }
    }

    /// Sets the most it may cost. Default: nothing is reserved.
    #[must_use]
    pub fn with_cost_max(mut self, cost_max: Amount) -> Self {
        self.cost_max = Some(cost_max);
        self
    }

    /// Digests the whole effect as canonical JSON. An approval bound to the digest holds for this
    /// effect and no other.
    ///
    /// # Errors
    /// `Invalid` if an argument is a number JSON cannot carry exactly.
    pub fn digest(&self) -> Result<Digest> {
        #[derive(Serialize)]
        struct Digested<'a> {
            v: u32,
            effect: &'a Effect,
        }
        Digest::of_json(&Digested {
            v: Self::DIGEST_VERSION,
            effect: self,
        })
    }
}
