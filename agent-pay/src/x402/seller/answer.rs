//! Answers: those of the protocol, and those of the work as they are kept.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::header;
use super::super::message::{PaymentRequired, SettleResponse, Version};
use super::super::network::Network;
use crate::backend::sqlite::authority::Answer;
use crate::error::{Error, Result};

/// An answer, its body whole.
pub(in crate::x402) type Whole = Response<Vec<u8>>;

/// The longest body of an answer that is sold, in bytes: with its headers, in base64 and JSON, it is
/// kept in [`Answer::BODY_BYTES_MAX`].
pub(super) const BODY_BYTES_MAX: usize = 640 * 1_024;
/// The most bytes of headers that are kept of an answer.
const HEADER_BYTES_MAX: usize = 16_384;

/// Headers that hold for one connection or one sending alone (RFC 9110, section 7.6.1), and those
/// that set the state of one client.
const NOT_KEPT: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn json_answer(status: StatusCode, body: &Value) -> Whole {
    let mut answer = Response::new(body.to_string().into_bytes());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer that says what went wrong as a code.
pub(super) fn problem(status: StatusCode, code: &str) -> Whole {
    json_answer(status, &json!({ "error": code }))
}

/// What is to be asked for again later, under the same payment.
pub(super) fn later(status: StatusCode, code: &str, after: Duration) -> Whole {
    let mut answer = problem(status, code);
    let seconds = after.as_millis().div_ceil(1_000).max(1);
    let value = HeaderValue::from_str(&seconds.to_string());
    answer
        .headers_mut()
        .insert(RETRY_AFTER, value.unwrap_or(HeaderValue::from_static("1")));
    answer
}

/// What the resource costs: in the header for version 2, in the body for version 1.
pub(super) fn payment_required(required: &PaymentRequired) -> Whole {
    let mut answer = json_answer(StatusCode::PAYMENT_REQUIRED, &required.to_v1());
    match header::encode(&required.to_v2()) {
        Ok(value) => {
            answer.headers_mut().insert(header::PAYMENT_REQUIRED, value);
            answer
        }
        Err(_too_long) => problem(StatusCode::INTERNAL_SERVER_ERROR, "offer_too_long"),
    }
}

/// Says on an answer what became of the payment.
pub(super) fn say(
    answer: &mut Whole,
    version: Version,
    network: &Network,
    mut said: SettleResponse,
) {
    if version == Version::V1 {
        said.network = network
            .v1_name()
            .unwrap_or_else(|| network.as_str())
            .to_owned();
    }
    if let Ok(value) = serde_json::to_value(said)
        .map_err(|_form| ())
        .and_then(|json| header::encode(&json).map_err(|_long| ()))
    {
        answer
            .headers_mut()
            .insert(header::response(version), value);
    }
}

/// Keeps caches from giving what one payer bought to another.
pub(super) fn keep_private(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.append(
        VARY,
        HeaderValue::from_static("payment-signature, x-payment"),
    );
}

/// An answer of the work as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    headers: Vec<(String, String)>,
    body: String,
}

/// Writes an answer to be kept.
pub(in crate::x402) fn keep(answer: &Whole) -> Result<Answer> {
    let too_long = || Error::invalid("answer", "longer than is kept");
    let mut headers = Vec::new();
    let mut n_bytes = 0_usize;
    for (name, value) in answer.headers() {
        if NOT_KEPT.contains(&name.as_str()) {
            continue;
        }
        n_bytes = n_bytes
            .saturating_add(name.as_str().len())
            .saturating_add(value.len());
        headers.push((name.as_str().to_owned(), STANDARD.encode(value.as_bytes())));
    }
    if n_bytes > HEADER_BYTES_MAX || answer.body().len() > BODY_BYTES_MAX {
        return Err(too_long());
    }
    let kept = Kept {
        headers,
        body: STANDARD.encode(answer.body()),
    };
    let kept = serde_json::to_string(&kept).map_err(|_form| too_long())?;
    Ok(Answer::new(answer.status().as_u16(), kept))
}

/// Reads an answer that was kept.
pub(in crate::x402) fn kept(answer: &Answer) -> Result<Whole> {
    let damaged = || Error::corrupt("a kept answer is not readable");
    let kept: Kept = crate::x402::store::stored(&answer.body)?;
    let body = STANDARD.decode(kept.body).map_err(|_form| damaged())?;
    let mut whole = Response::new(body);
    *whole.status_mut() = StatusCode::from_u16(answer.status).map_err(|_range| damaged())?;
    for (name, value) in kept.headers {
        let value = STANDARD.decode(value).map_err(|_form| damaged())?;
        let name = HeaderName::try_from(name).map_err(|_form| damaged())?;
        let value = HeaderValue::from_bytes(&value).map_err(|_form| damaged())?;
        whole.headers_mut().append(name, value);
    }
    Ok(whole)
}
