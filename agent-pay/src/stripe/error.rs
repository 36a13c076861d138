//! Why Stripe refuses.

use serde::Deserialize;

use crate::transport::{self, Refuses, plain};

/// A call to Stripe that did not end well.
pub type CallError = transport::CallError<Refusal>;

/// Why Stripe refused a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The kind of error: `card_error`, `invalid_request_error`, `idempotency_error`…
    #[serde(rename = "type")]
    pub kind: String,
    /// The stable code, empty if there is none.
    #[serde(deserialize_with = "text")]
    pub code: String,
    /// Why the bank declined, empty if it did not.
    #[serde(deserialize_with = "text")]
    pub decline_code: String,
    /// Which parameter it is about, empty if none.
    #[serde(deserialize_with = "text")]
    pub param: String,
}

fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(from).map(Option::unwrap_or_default)
}

impl Refuses for Refusal {
    const WHO: &'static str = "Stripe";
    const CODES: [&'static str; 4] = [
        "pay.stripe.refused",
        "pay.stripe.busy",
        "pay.stripe.unknown",
        "pay.stripe.not_sent",
    ];

    fn read(status: u16, body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Wrapped {
            #[serde(default)]
            error: Refusal,
        }
        let wrapped: Wrapped = serde_json::from_slice(body).unwrap_or_default();
        Self {
            status,
            ..wrapped.error
        }
    }

    fn status(&self) -> u16 {
        self.status
    }

    /// Returns the most telling of the codes.
    fn reason(&self) -> String {
        let codes = [&self.decline_code, &self.code, &self.kind];
        match codes.into_iter().find(|code| !code.is_empty()) {
            Some(code) => plain(code),
            None => format!("http_{}", self.status),
        }
    }
}
