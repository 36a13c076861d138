//! Answers of a seller before they are HTTP.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::Classify;
use serde_json::{Value, json};

/// Why a request is not done, as the protocol says it.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
    pub(super) param: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

impl Problem {
    /// The request is wrong.
    pub(super) fn invalid(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status: 400,
            kind: "invalid_request",
            code: code.into(),
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// It cannot be said now; come again.
    pub(super) fn later(retry_after: Duration) -> Self {
        Self {
            status: 503,
            kind: "service_unavailable",
            code: "service_unavailable".into(),
            message: "come again with the same Idempotency-Key".into(),
            param: None,
            retry_after: Some(retry_after),
        }
    }

    pub(super) const fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "type": self.kind, "code": self.code, "message": self.message });
        if let (Some(param), Some(body)) = (&self.param, body.as_object_mut()) {
            body.insert("param".to_owned(), Value::String(param.clone()));
        }
        body
    }
}

/// What went wrong inside is told to nobody outside.
impl From<crate::Error> for Problem {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::InFlight { retry_after, .. } => Self {
                retry_after: Some(retry_after),
                ..Self::invalid(
                    "idempotency_in_flight",
                    "a request with this Idempotency-Key is being processed",
                )
                .with_status(409)
            },
            crate::Error::KeyReused { .. } => Self::invalid(
                "idempotency_conflict",
                "the Idempotency-Key was used with another request",
            )
            .with_status(422),
            error => Self::later(error.retry_after().unwrap_or(Duration::from_secs(1))),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) is_replayed: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Reply {
    pub(super) fn new(status: u16, body: &Value) -> Self {
        Self {
            status,
            body: body.to_string(),
            is_replayed: false,
            retry_after: None,
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        Self {
            retry_after: problem.retry_after,
            ..Self::new(problem.status, &problem.body())
        }
    }
}
