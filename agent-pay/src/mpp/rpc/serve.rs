//! Selling the answer to a JSON-RPC request: the same verdicts as behind HTTP.

use agent_core::{Principal, canonical_json};
use serde_json::{Value, json};

use super::{attach_receipt, credential, error};
use crate::error::{Error, Result};
use crate::mpp::problem::Problem;
use crate::mpp::receipt::Receipt;
use crate::mpp::server::{Offer, Refused, Sale, Server, Verdict};
use crate::transport::Answer;

/// The error for a payment nobody can say anything about yet: ask again with the same credential.
const INTERNAL: i32 = -32_603;

/// Makes the sale of a request: its method, the tool or resource it names, and its parameters
/// without `_meta`.
///
/// # Errors
/// `Invalid` for parameters canonical JSON cannot carry.
pub fn sale(request: &Value, offers: Vec<Offer>) -> Result<Sale> {
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str);
    let name = text("/params/name").or_else(|| text("/params/uri"));
    let method = text("/method").unwrap_or_default();
    let route = format!("jsonrpc:{method} {}", name.unwrap_or_default());
    let mut params = request.get("params").cloned().unwrap_or_default();
    if let Some(params) = params.as_object_mut() {
        params.remove("_meta");
    }
    Ok(Sale::new(route, offers).with_body(canonical_json(&params)?))
}

/// Answers a request that costs something: runs the handler once for one credential, which says the
/// `result`, or the `error` that is not paid for.
///
/// # Errors
/// Those of the store: give no answer then, the credential can be presented again.
///
/// # Cancel safety
/// As [`Server::present`].
pub async fn serve(
    server: &Server,
    request: &Value,
    sale: &Sale,
    handler: impl AsyncFnOnce(&Principal) -> Result<Value, Value>,
) -> Result<Value> {
    let id = request.get("id").cloned().unwrap_or_default();
    let refuse = |problem: Problem, detail: &str, is_final: bool| -> Result<Value> {
        let mut refusal = error(problem, detail, &server.challenges(sale)?)?;
        if is_final && let Some(problem) = refusal.pointer_mut("/data/problem") {
            super::put(problem, "final", json!(true));
        }
        Ok(refusal)
    };
    let outcome = match credential(request) {
        Err(_form) => Err(refuse(
            Problem::MalformedCredential,
            "the credential cannot be read",
            false,
        )?),
        Ok(None) => Err(refuse(
            Problem::PaymentRequired,
            "a payment is required",
            false,
        )?),
        Ok(Some(credential)) => match server.present(&credential, sale, false).await? {
            Verdict::Run(ticket) => {
                let said = handler(ticket.buyer()).await;
                let answer = kept(&said)?;
                let answer = server.settle(ticket, answer).await?;
                read(&answer)?
            }
            Verdict::Replayed(answer) => read(&answer)?,
            Verdict::Taken(receipt) => {
                let mut result = json!({});
                attach_receipt(&mut result, &receipt)?;
                Ok(result)
            }
            Verdict::Refused(refused) => {
                let Refused {
                    problem,
                    detail,
                    is_final,
                } = refused;
                Err(refuse(problem, &detail, is_final)?)
            }
            Verdict::Busy { retry_after } => {
                let data = json!({ "retryAfter": retry_after.as_secs().max(1) });
                Err(json!({ "code": INTERNAL, "message": "not known yet", "data": data }))
            }
        },
    };
    Ok(match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    })
}

/// Makes what a handler said an answer that can be kept.
fn kept(said: &Result<Value, Value>) -> Result<Answer> {
    let (status, said) = match said {
        Ok(result) => (200, result),
        Err(error) => (422, error),
    };
    let answer = http::Response::builder().status(status);
    let answer = answer.body(said.to_string().into_bytes());
    answer.map_err(|_form| Error::corrupt("an answer cannot be made"))
}

/// Reads a kept answer again.
fn read(answer: &Answer) -> Result<Result<Value, Value>> {
    let said = serde_json::from_slice(answer.body());
    let mut said: Value = said.map_err(|_form| Error::corrupt("a kept answer cannot be read"))?;
    if !answer.status().is_success() {
        return Ok(Err(said));
    }
    let receipt = answer.headers().get("payment-receipt");
    if let Some(receipt) = receipt.and_then(|field| field.to_str().ok()) {
        attach_receipt(&mut said, &Receipt::parse(receipt)?)?;
    }
    Ok(Ok(said))
}
