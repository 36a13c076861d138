//! A seller as HTTP.

use std::sync::Arc;

use agent_core::IdempotencyKey;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::VERSION;
use super::answer::{Problem, Reply};
use super::seller::{Call, Seller, wrong};

/// The longest body of a request in bytes: a cart of two hundred items and a buyer fit many times.
const BODY_BYTES_MAX: usize = 256 * 1_024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const API_VERSION: HeaderName = HeaderName::from_static("api-version");

/// Makes the routes of checkout and delegated payment, to be mounted by the host. Requests of more
/// than 256 KiB are refused.
pub fn router(seller: Seller) -> Router {
    Router::new()
        .route("/checkout_sessions", post(create))
        .route("/checkout_sessions/{id}", get(retrieve).post(update))
        .route("/checkout_sessions/{id}/complete", post(complete))
        .route("/checkout_sessions/{id}/cancel", post(cancel))
        .route("/agentic_commerce/delegate_payment", post(delegate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(seller))
}

type Shared = State<Arc<Seller>>;

async fn create(State(seller): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let call = call(&seller, &headers, "/checkout_sessions".to_owned(), &body);
    let reply = match call {
        Ok(call) => seller.create(call).await,
        Err(problem) => problem.into(),
    };
    respond(&headers, reply)
}

async fn retrieve(State(seller): Shared, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let reply = match identify(&seller, &headers) {
        Ok(who) => seller.get(&who, &id).await,
        Err(problem) => problem.into(),
    };
    respond(&headers, reply)
}

async fn update(
    State(seller): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = call(&seller, &headers, path(&id, ""), &body);
    let reply = match call {
        Ok(call) => seller.update(call, &id).await,
        Err(problem) => problem.into(),
    };
    respond(&headers, reply)
}

async fn complete(
    State(seller): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = call(&seller, &headers, path(&id, "/complete"), &body);
    let reply = match call {
        Ok(call) => seller.complete(call, &id).await,
        Err(problem) => problem.into(),
    };
    respond(&headers, reply)
}

async fn cancel(
    State(seller): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // The body is optional here.
    let body = if body.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        body
    };
    let call = call(&seller, &headers, path(&id, "/cancel"), &body);
    let reply = match call {
        Ok(call) => seller.cancel(call, &id).await,
        Err(problem) => problem.into(),
    };
    respond(&headers, reply)
}

async fn delegate(State(seller): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let path = "/agentic_commerce/delegate_payment".to_owned();
    let reply = match call(&seller, &headers, path, &body) {
        Ok(call) => seller.delegate(call).await,
        Err(problem) => problem.into(),
    };
    respond(&headers, reply)
}

/// The path as keys are scoped by. An id that cannot be one is cut: it is not found anyway.
fn path(id: &str, step: &str) -> String {
    let id: String = id.chars().take(64).collect();
    format!("/checkout_sessions/{id}{step}")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn identify(seller: &Seller, headers: &HeaderMap) -> Result<String, Problem> {
    let bearer = text(headers, &AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
    let who = bearer.and_then(|bearer| seller.config.identify(bearer));
    let denied = || Problem::invalid("unauthorized", "no agent known here").with_status(401);
    let who = who.map(ToOwned::to_owned).ok_or_else(denied)?;
    if text(headers, &API_VERSION) != Some(VERSION) {
        let why = format!("this is version {VERSION}");
        return Err(Problem::invalid("unsupported_version", why).about("API-Version"));
    }
    Ok(who)
}

/// Reads what every request that changes something has.
fn call(seller: &Seller, headers: &HeaderMap, path: String, body: &[u8]) -> Result<Call, Problem> {
    let who = identify(seller, headers)?;
    let key = text(headers, &IDEMPOTENCY_KEY).map(IdempotencyKey::new);
    let required = || {
        let why = "the Idempotency-Key header is required, 1 to 255 printable characters";
        Problem::invalid("idempotency_key_required", why)
    };
    let key = key.and_then(Result::ok).ok_or_else(required)?;
    let is_json = text(headers, &CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        return Err(Problem::invalid("invalid_request", "application/json").with_status(415));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_form| wrong("$"))?;
    Ok(Call {
        who,
        path,
        key,
        body,
    })
}

fn respond(asked: &HeaderMap, reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for name in [IDEMPOTENCY_KEY, REQUEST_ID] {
        if let Some(value) = asked.get(&name).filter(|value| value.len() <= 255) {
            headers.insert(name, value.clone());
        }
    }
    if reply.is_replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(wait) = reply.retry_after {
        // At least a second, and rounded up: sooner would be in vain.
        let seconds = wait.as_millis().div_ceil(1_000).max(1);
        if let Ok(seconds) =
            HeaderValue::from_str(&json!(u64::try_from(seconds).unwrap_or(u64::MAX)).to_string())
        {
            headers.insert(RETRY_AFTER, seconds);
        }
    }
    response
}
