//! The extension `payment-identifier`: a payment that names itself.

use agent_core::IdempotencyKey;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::x402::message::PaymentPayload;

pub(super) const NAME: &str = "payment-identifier";

/// Whether payments name themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Identifier {
    /// They may.
    #[default]
    Optional,
    /// They must; one that does not is refused.
    Required,
}

impl Identifier {
    /// What a server says of it in `extensions`.
    pub(super) fn advertised(self) -> Value {
        json!({
            "info": { "required": self == Self::Required },
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "required": { "type": "boolean" },
                    "id": { "type": "string", "minLength": 16, "maxLength": 128 },
                },
                "required": ["required"],
            },
        })
    }

    /// Reads the id of a payment.
    pub(super) fn of(self, payment: &PaymentPayload) -> Result<Option<IdempotencyKey>> {
        let wrong = || Error::invalid(NAME, "16 to 128 letters, digits, `-` and `_`");
        let info = payment
            .extensions
            .get(NAME)
            .map(|extension| extension.get("info"));
        let id = match info {
            None => None,
            Some(info) => info.ok_or_else(wrong)?.get("id"),
        };
        let Some(id) = id else {
            // Version 1 has no extensions and cannot name itself.
            return match self {
                Self::Required => Err(Error::invalid(NAME, "the payment must name itself")),
                Self::Optional => Ok(None),
            };
        };
        let id = id.as_str().filter(|id| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (16..=128).contains(&id.len()) && id.bytes().all(is_plain)
        });
        Ok(Some(IdempotencyKey::new(id.ok_or_else(wrong)?)?))
    }
}
