//! The protocol in JSON-RPC 2.0 and MCP (draft-payment-transport-mcp-00): challenges in an error,
//! credential and receipt under `_meta`. Challenges are objects there, their requests JSON.

mod serve;

use serde_json::{Map, Value, json};

pub use serve::{sale, serve};

use super::challenge::Challenge;
use super::credential::Credential;
use super::encoding;
use super::problem::Problem;
use super::receipt::Receipt;
use crate::error::{Error, Result};

/// The error that says something must be paid.
pub const PAYMENT_REQUIRED: i32 = -32_042;
/// The error that says a payment was not accepted.
pub const VERIFICATION_FAILED: i32 = -32_043;
/// The error for a credential that cannot be read: invalid parameters.
pub const INVALID_PARAMS: i32 = -32_602;
/// Where a credential is under `_meta`.
pub const CREDENTIAL_KEY: &str = "org.paymentauth/credential";
/// Where a receipt is under `_meta`.
pub const RECEIPT_KEY: &str = "org.paymentauth/receipt";
/// The most challenges of one error.
const CHALLENGES_MAX: usize = 16;

/// Writes the object that a server, or a client, puts under `capabilities.experimental.payment`.
#[must_use]
pub fn capability() -> Value {
    json!({ "methods": { "ledger": { "intents": ["charge", "session"] } } })
}

/// Writes the `error` of a JSON-RPC answer.
///
/// # Errors
/// `Invalid` for a challenge whose request is not JSON.
pub fn error(problem: Problem, detail: &str, challenges: &[Challenge]) -> Result<Value> {
    let code = match problem {
        Problem::PaymentRequired => PAYMENT_REQUIRED,
        Problem::MalformedCredential => return Ok(malformed(detail)),
        _ => VERIFICATION_FAILED,
    };
    let challenges: Result<Vec<Value>> = challenges.iter().map(to_object).collect();
    Ok(json!({
        "code": code,
        "message": problem.title(),
        "data": {
            "httpStatus": problem.status(),
            "challenges": challenges?,
            "problem": problem.details(detail),
        },
    }))
}

fn malformed(detail: &str) -> Value {
    json!({ "code": INVALID_PARAMS, "message": "Invalid params", "data": {
        "problem": Problem::MalformedCredential.details(detail) } })
}

/// Reads the challenges of an `error`. `None` if it asks for no payment.
///
/// # Errors
/// `Invalid` for one that asks for a payment and is malformed.
pub fn challenges(error: &Value) -> Result<Option<Vec<Challenge>>> {
    let code = error.get("code").and_then(Value::as_i64);
    let asks = [PAYMENT_REQUIRED, VERIFICATION_FAILED].map(i64::from);
    if !code.is_some_and(|code| asks.contains(&code)) {
        return Ok(None);
    }
    let found = error.pointer("/data/challenges").and_then(Value::as_array);
    let found = found.filter(|found| (1..=CHALLENGES_MAX).contains(&found.len()));
    let found = found.ok_or_else(|| Error::invalid("payment error", "1 to 16 challenges"))?;
    let read: Result<Vec<Challenge>> = found.iter().map(from_object).collect();
    read.map(Some)
}

/// Reads the credential of a request, from `params._meta` or from `_meta` beside `params`.
///
/// # Errors
/// `Invalid` for a malformed credential.
pub fn credential(request: &Value) -> Result<Option<Credential>> {
    let places = [request.pointer("/params/_meta"), request.get("_meta")];
    let mut found = places.into_iter().flatten();
    let Some(found) = found.find_map(|meta| meta.get(CREDENTIAL_KEY)) else {
        return Ok(None);
    };
    let malformed = || Error::invalid("payment credential", "not the object of one");
    let challenge = from_object(found.get("challenge").ok_or_else(malformed)?)?;
    let source = found.get("source").and_then(Value::as_str);
    let payload = found.get("payload").ok_or_else(malformed)?;
    let credential = Credential::new(challenge, source.map(str::to_owned), payload.clone());
    credential.check()?;
    Ok(Some(credential))
}

/// Puts a credential under the `_meta` of MCP parameters.
///
/// # Errors
/// `Invalid` if the parameters, or their `_meta`, are not an object.
pub fn attach_credential(params: &mut Value, credential: &Credential) -> Result<()> {
    let mut object = Map::new();
    object.insert("challenge".to_owned(), to_object(&credential.challenge)?);
    if let Some(source) = &credential.source {
        object.insert("source".to_owned(), json!(source));
    }
    object.insert("payload".to_owned(), credential.payload.clone());
    meta(params, CREDENTIAL_KEY, Value::Object(object))
}

/// Puts a receipt under the `_meta` of an MCP result.
///
/// # Errors
/// `Invalid` if the result, or its `_meta`, is not an object.
pub fn attach_receipt(result: &mut Value, receipt: &Receipt) -> Result<()> {
    meta(result, RECEIPT_KEY, json!(receipt))
}

/// Reads the receipt of an answer, from `result._meta` or from `_meta` beside `result`.
///
/// # Errors
/// `Invalid` for a malformed receipt.
pub fn receipt(answer: &Value) -> Result<Option<Receipt>> {
    let places = [answer.pointer("/result/_meta"), answer.get("_meta")];
    let mut found = places.into_iter().flatten();
    let Some(found) = found.find_map(|meta| meta.get(RECEIPT_KEY)) else {
        return Ok(None);
    };
    let receipt: Receipt = serde_json::from_value(found.clone())
        .map_err(|_form| Error::invalid("payment receipt", "not the object of one"))?;
    receipt.check()?;
    Ok(Some(receipt))
}

fn meta(of: &mut Value, key: &str, value: Value) -> Result<()> {
    let not_object = || Error::invalid("JSON-RPC", "an object is needed for `_meta`");
    let object = of.as_object_mut().ok_or_else(not_object)?;
    let meta = object.entry("_meta").or_insert_with(|| json!({}));
    let meta = meta.as_object_mut().ok_or_else(not_object)?;
    meta.insert(key.to_owned(), value);
    Ok(())
}

fn put(of: &mut Value, key: &str, value: Value) {
    if let Some(object) = of.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn to_object(challenge: &Challenge) -> Result<Value> {
    let mut object = serde_json::to_value(challenge)
        .map_err(|_form| Error::invalid("payment challenge", "it has no JSON form"))?;
    let request: Value = encoding::decode_json("payment request", &challenge.request)?;
    put(&mut object, "request", request);
    Ok(object)
}

/// Reads a challenge; its request is made canonical again, which is what the id covers.
fn from_object(object: &Value) -> Result<Challenge> {
    let malformed = || Error::invalid("payment challenge", "not the object of one");
    let mut object = object.clone();
    let request = object.get_mut("request").ok_or_else(malformed)?;
    let encoded = match &*request {
        // Some clients carry it as in HTTP.
        Value::String(encoded) => encoded.clone(),
        json @ Value::Object(_) => encoding::encode_json(json)?,
        _ => return Err(malformed()),
    };
    *request = Value::String(encoded);
    serde_json::from_value(object).map_err(|_form| malformed())
}
