//! A facilitator behind HTTP (specification, section 7).

use std::fmt;
use std::sync::Arc;

use agent_core::{ErrorKind, Retry};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Facilitator, Settlement, Verdict};
use crate::error::{Error, Result};
use crate::transport::{Answer, Lost, Transport};
use crate::x402::message::{
    Accepted, PaymentPayload, SettleResponse, Supported, VerifyResponse, Version,
};
use crate::x402::requirements::{Requirements, ResourceInfo};

/// The codes after which nothing was sent to the chain: checks that come before it, of the
/// specification (section 9) and of the reference facilitator (`@x402/evm` 2.27.0). All others, a
/// transaction that failed among them, leave open what became of the authorization.
const CODES_BEFORE_THE_CHAIN: [&str; 22] = [
    "insufficient_funds",
    "invalid_exact_evm_authorization_value",
    "invalid_exact_evm_eip3009_not_supported",
    "invalid_exact_evm_insufficient_balance",
    "invalid_exact_evm_missing_eip712_domain",
    "invalid_exact_evm_network_mismatch",
    "invalid_exact_evm_payload_authorization_valid_after",
    "invalid_exact_evm_payload_authorization_valid_before",
    "invalid_exact_evm_payload_authorization_value_mismatch",
    "invalid_exact_evm_payload_recipient_mismatch",
    "invalid_exact_evm_payload_signature",
    "invalid_exact_evm_recipient_mismatch",
    "invalid_exact_evm_scheme",
    "invalid_exact_evm_signature",
    "invalid_exact_evm_token_name_mismatch",
    "invalid_exact_evm_token_version_mismatch",
    "invalid_network",
    "invalid_payload",
    "invalid_payment_requirements",
    "invalid_scheme",
    "invalid_x402_version",
    "unsupported_scheme",
];

/// The longest code of a facilitator that is kept, in bytes.
const CODE_BYTES_MAX: usize = 128;

/// A facilitator that is asked over HTTP.
#[derive(Clone)]
pub struct HttpFacilitator {
    transport: Arc<dyn Transport>,
    base: String,
}

impl fmt::Debug for HttpFacilitator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpFacilitator")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl HttpFacilitator {
    /// Asks the facilitator at a base such as `https://host/path`. Credentials, where it wants some,
    /// are the transport's to add.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, base: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { transport, base }
    }

    async fn post(&self, path: &str, body: &Value) -> std::result::Result<Answer, Lost> {
        let request = http::Request::post(format!("{}{path}", self.base))
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json")
            .body(body.to_string().into_bytes());
        self.transport.send(request.map_err(Lost::not_sent)?).await
    }
}

/// What both calls send.
fn body(payment: &PaymentPayload, asked: &Requirements) -> Value {
    let nothing = ResourceInfo::new("");
    let resource = payment.resource.as_ref().unwrap_or(&nothing);
    let (version, asked) = match (payment.version(), &payment.accepted) {
        (Version::V1, _) => (1, asked.to_v1(resource)),
        // What the payer accepted is equal to what was asked; both go in one writing.
        (Version::V2, Accepted::V2(accepted)) => (2, Some(accepted.raw().clone())),
        (Version::V2, Accepted::V1(_)) => (2, Some(asked.raw().clone())),
    };
    json!({
        "x402Version": version,
        "paymentPayload": payment.to_json(),
        "paymentRequirements": asked,
    })
}

/// Keeps what may be kept of a code that a stranger wrote.
fn tamed(code: Option<String>) -> String {
    let code = code.unwrap_or_else(|| "unspecified".to_owned());
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || "_-.: ".contains(*c);
    code.chars().filter(is_kept).take(CODE_BYTES_MAX).collect()
}

#[async_trait]
impl Facilitator for HttpFacilitator {
    async fn verify(&self, payment: PaymentPayload, asked: Requirements) -> Verdict {
        let reason = match self.post("/verify", &body(&payment, &asked)).await {
            Err(lost) => lost.to_string(),
            Ok(answer) => match VerifyResponse::read(answer.body()) {
                Ok(said) if said.is_valid && answer.status().is_success() => return Verdict::Valid,
                Ok(said) if !said.is_valid => {
                    return Verdict::Invalid {
                        code: tamed(said.invalid_reason),
                    };
                }
                _ => format!("the facilitator answered {}", answer.status()),
            },
        };
        Verdict::Unknown { reason }
    }

    async fn settle(&self, payment: PaymentPayload, asked: Requirements) -> Settlement {
        let answer = match self.post("/settle", &body(&payment, &asked)).await {
            Ok(answer) => answer,
            Err(lost) if !lost.may_have_had_effect() => return Settlement::failed("not_sent"),
            Err(lost) => return Settlement::unknown(lost.to_string()),
        };
        match SettleResponse::read(answer.body()) {
            Ok(said) if said.success && answer.status().is_success() => {
                Settlement::settled(tamed(Some(said.transaction)))
            }
            Ok(said) if !said.success && !answer.status().is_server_error() => {
                let code = tamed(said.error_reason);
                // A transaction that is named was sent.
                if CODES_BEFORE_THE_CHAIN.contains(&code.as_str()) && said.transaction.is_empty() {
                    Settlement::failed(code)
                } else {
                    Settlement::unknown(code)
                }
            }
            _ => Settlement::unknown(format!("the facilitator answered {}", answer.status())),
        }
    }

    async fn supported(&self) -> Result<Supported> {
        let failed = |retry, source: agent_core::BoxError| {
            let (kind, operation) = (ErrorKind::Unavailable, "say what it supports");
            Error::backend("x402 facilitator", operation, kind, retry, source)
        };
        let request = http::Request::get(format!("{}/supported", self.base)).body(Vec::new());
        let request = request.map_err(|e| failed(Retry::Never, e.into()))?;
        let answer = self.transport.send(request).await;
        let answer = answer.map_err(|e| failed(Retry::Safe, e.into()))?;
        if !answer.status().is_success() {
            return Err(failed(Retry::Safe, answer.status().to_string().into()));
        }
        Supported::read(answer.body())
    }
}
