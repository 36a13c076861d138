//! A stand-in for Stripe that keeps its rules: payment intents, refunds, tokens and meter events,
//! idempotency keys with their bodies, and faults on the way.

#![expect(
    dead_code,
    clippy::indexing_slicing,
    reason = "shared by tests that each use a part of it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{Entropy, EntropyExt, SeededEntropy};
use agent_pay::transport::{Answer, Lost, Request, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How often things go wrong, of a million requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost_requests: u32,
    pub(crate) lost_answers: u32,
    pub(crate) errors_after: u32,
    pub(crate) busy: u32,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) form: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    answers: BTreeMap<String, (String, u16, Value)>,
    intents: BTreeMap<String, Value>,
    refunds: Vec<Value>,
    tokens: BTreeMap<String, Value>,
    meters: BTreeMap<String, u64>,
    /// Requests from this one on never come back, as when the process dies.
    ends_after: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct FakeStripe {
    state: Mutex<State>,
    faults: Faults,
    entropy: Arc<dyn Entropy>,
}

impl FakeStripe {
    pub(crate) fn new(faults: Faults, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            faults,
            entropy: Arc::new(SeededEntropy::new(seed)),
        })
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// Lets `n` more requests come back, or all again.
    pub(crate) fn end_after(&self, n: Option<usize>) {
        let mut state = self.state.lock();
        state.ends_after = n.map(|n| n + state.seen.len());
    }

    /// Cents that were taken and did not go back.
    pub(crate) fn moved(&self) -> i64 {
        let state = self.state.lock();
        let taken = state.intents.values();
        let taken: i64 = taken.filter_map(|i| i["amount_received"].as_i64()).sum();
        let back: i64 = state
            .refunds
            .iter()
            .filter_map(|r| r["amount"].as_i64())
            .sum();
        taken - back
    }

    /// What a meter counted, by identifier.
    pub(crate) fn counted(&self) -> BTreeMap<String, u64> {
        self.state.lock().meters.clone()
    }

    pub(crate) fn intent(&self, id: &str) -> Value {
        self.state.lock().intents[id].clone()
    }

    pub(crate) fn intents(&self) -> Vec<Value> {
        self.state.lock().intents.values().cloned().collect()
    }
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    pairs
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect()
}

fn error(kind: &str, code: &str) -> Value {
    json!({ "error": { "type": kind, "code": code, "message": "no" } })
}

fn wrong(code: &str) -> (u16, Value) {
    (400, error("invalid_request_error", code))
}

impl State {
    fn create(&mut self, form: &BTreeMap<String, String>) -> (u16, Value) {
        let id = format!("pi_fake{}x", self.intents.len());
        let token = form.get("payment_method_data[shared_payment_granted_token]");
        let is_known =
            token.is_none_or(|t| self.tokens.get(t).is_some_and(|t| t["status"] == "active"));
        let Some(amount) = form.get("amount").and_then(|a| a.parse::<i64>().ok()) else {
            return wrong("parameter_missing");
        };
        let limit = |t| Some(self.tokens.get(t)?["usage_limits"]["max_amount"].as_i64());
        let most = token.and_then(limit);
        if !is_known || most.flatten().is_some_and(|most| amount > most) {
            return wrong("shared_payment_token_unusable");
        }
        let notes = form.iter().filter_map(|(name, text)| {
            let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((name.to_owned(), json!(text)))
        });
        let intent = json!({
            "id": id, "object": "payment_intent", "status": "requires_confirmation",
            "amount": amount, "amount_received": 0, "amount_capturable": 0,
            "currency": form.get("currency"), "latest_charge": null,
            "capture_method": form.get("capture_method"),
            "payment_method": form.get("payment_method"),
            "metadata": notes.collect::<serde_json::Map<_, _>>(),
        });
        self.intents.insert(id, intent.clone());
        (200, intent)
    }

    fn step(&mut self, id: &str, step: &str, form: &BTreeMap<String, String>) -> (u16, Value) {
        let Some(intent) = self.intents.get_mut(id) else {
            return (404, error("invalid_request_error", "resource_missing"));
        };
        let status = intent["status"].as_str().unwrap_or_default().to_owned();
        match (step, status.as_str()) {
            ("confirm", "requires_confirmation") => match intent["payment_method"].as_str() {
                Some("pm_declined") => {
                    intent["status"] = json!("requires_payment_method");
                    let mut said = error("card_error", "card_declined");
                    said["error"]["decline_code"] = json!("insufficient_funds");
                    return (402, said);
                }
                Some("pm_person") => intent["status"] = json!("requires_action"),
                _ if intent["capture_method"] == "manual" => {
                    intent["status"] = json!("requires_capture");
                    intent["amount_capturable"] = intent["amount"].clone();
                }
                _ => {
                    intent["status"] = json!("succeeded");
                    intent["amount_received"] = intent["amount"].clone();
                }
            },
            ("capture", "requires_capture") => {
                let asked = form
                    .get("amount_to_capture")
                    .and_then(|a| a.parse::<i64>().ok());
                if asked > intent["amount"].as_i64() {
                    return wrong("amount_too_large");
                }
                intent["status"] = json!("succeeded");
                intent["amount_received"] = json!(asked);
            }
            ("cancel", "succeeded" | "canceled" | "processing") | ("confirm" | "capture", _) => {
                return wrong("payment_intent_unexpected_state");
            }
            ("cancel", _) => {
                intent["status"] = json!("canceled");
                intent["amount_capturable"] = json!(0);
            }
            _ => return wrong("url_invalid"),
        }
        (200, intent.clone())
    }

    fn refund(&mut self, form: &BTreeMap<String, String>) -> (u16, Value) {
        let amount = form["amount"].parse::<i64>().unwrap_or_default();
        let of = &form["payment_intent"];
        let back = self
            .refunds
            .iter()
            .filter(|r| r["payment_intent"] == json!(of));
        let back: i64 = back.filter_map(|r| r["amount"].as_i64()).sum();
        let intent = &self.intents[of];
        if back + amount > intent["amount_received"].as_i64().unwrap_or_default() {
            return wrong("charge_already_refunded");
        }
        let refund = json!({
            "id": format!("re_fake{}x", self.refunds.len()), "amount": amount,
            "currency": intent["currency"], "status": "succeeded", "payment_intent": of,
            "metadata": { "agent_pay_id": form.get("metadata[agent_pay_id]") },
        });
        self.refunds.push(refund.clone());
        (200, refund)
    }

    fn token(&mut self, form: &BTreeMap<String, String>) -> (u16, Value) {
        let id = format!("spt_fake{}x", self.tokens.len());
        let number = |name: &str| form.get(name).and_then(|n| n.parse::<i64>().ok());
        let token = json!({
            "id": id, "object": "shared_payment.issued_token", "status": "active",
            "deactivated_at": null, "deactivated_reason": null,
            "payment_method": form.get("payment_method"),
            "usage_limits": {
                "currency": form.get("usage_limits[currency]"),
                "expires_at": number("usage_limits[expires_at]"),
                "max_amount": number("usage_limits[max_amount]"),
            },
        });
        self.tokens.insert(id, token.clone());
        (200, token)
    }

    fn route(&mut self, method: &str, path: &str, form: &BTreeMap<String, String>) -> (u16, Value) {
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["payment_intents"]) => self.create(form),
            ("GET", ["payment_intents", "search"]) => {
                let asked = form["query"].rsplit(":'").next().unwrap_or_default();
                let asked = asked.trim_end_matches('\'');
                let found = self.intents.values();
                let found = found.filter(|i| i["metadata"]["agent_pay_id"] == json!(asked));
                (
                    200,
                    json!({ "data": found.collect::<Vec<_>>(), "has_more": false }),
                )
            }
            ("GET", ["payment_intents", id]) => match self.intents.get(*id) {
                Some(intent) => (200, intent.clone()),
                None => (404, error("invalid_request_error", "resource_missing")),
            },
            ("POST", ["payment_intents", id, step]) => self.step(id, step, form),
            ("POST", ["refunds"]) => self.refund(form),
            ("GET", ["refunds"]) => {
                let of = json!(form["payment_intent"]);
                let found = self.refunds.iter().filter(|r| r["payment_intent"] == of);
                (
                    200,
                    json!({ "data": found.collect::<Vec<_>>(), "has_more": false }),
                )
            }
            ("POST", ["shared_payment", "issued_tokens"]) => self.token(form),
            ("POST", ["shared_payment", "issued_tokens", id, "revoke"]) => {
                let token = &mut self.tokens.entry((*id).to_owned()).or_default();
                token["status"] = json!("deactivated");
                token["deactivated_reason"] = json!("revoked");
                (200, token.clone())
            }
            ("GET", ["shared_payment", "issued_tokens" | "granted_tokens", id]) => {
                (200, self.tokens[*id].clone())
            }
            ("POST", ["billing", "meter_events"]) => {
                let identifier = form["identifier"].clone();
                if form["payload[stripe_customer_id]"] == "cus_gone" {
                    return wrong("customer_missing");
                }
                let value = form["payload[value]"].parse::<u64>().unwrap_or_default();
                self.meters.entry(identifier.clone()).or_insert(value);
                (
                    200,
                    json!({ "identifier": identifier, "event_name": form["event_name"] }),
                )
            }
            _ => (404, error("invalid_request_error", "url_invalid")),
        }
    }

    /// Answers as before to the same key and body; `error`s of the server are kept too.
    fn answer(&mut self, seen: &Seen) -> (u16, Value) {
        let (method, target) = seen.line.split_once(' ').unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let Some(key) = seen.headers.get("idempotency-key") else {
            return self.route(method, &path, &seen.form);
        };
        let body = format!("{path} {:?}", seen.form);
        if let Some((before, status, answer)) = self.answers.get(key) {
            return if *before == body {
                (*status, answer.clone())
            } else {
                (400, error("idempotency_error", ""))
            };
        }
        let (status, answer) = self.route(method, &path, &seen.form);
        self.answers
            .insert(key.clone(), (body, status, answer.clone()));
        (status, answer)
    }
}

#[async_trait::async_trait]
impl Transport for FakeStripe {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        // Others may go on while a request is on its way.
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        let happens = |per_million: u32| self.entropy.chance(per_million);
        let mut state = self.state.lock();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let text = if body.is_empty() { query } else { body };
        let target = request.uri().path_and_query().map(ToString::to_string);
        let headers = request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let seen = Seen {
            line: format!("{} {}", request.method(), target.unwrap_or_default()),
            headers: headers.collect(),
            form: pairs(&text),
        };
        let is_over = state.ends_after.is_some_and(|end| state.seen.len() >= end);
        state.seen.push(seen.clone());
        if happens(self.faults.lost_requests) {
            return Err(Lost::may_have_arrived("the request was lost"));
        }
        let answer = |status: u16, body: &Value| {
            let body = body.to_string().into_bytes();
            let built = http::Response::builder().status(status).body(body);
            built.map_err(Lost::may_have_arrived)
        };
        if happens(self.faults.busy) {
            return answer(429, &error("invalid_request_error", "rate_limit"));
        }
        let (status, body) = state.answer(&seen);
        if is_over || happens(self.faults.lost_answers) {
            return Err(Lost::may_have_arrived("the answer was lost"));
        }
        if happens(self.faults.errors_after) {
            return answer(500, &error("api_error", ""));
        }
        answer(status, &body)
    }
}
