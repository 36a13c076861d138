//! Answers as they are kept, and given again.

use agent_core::store::Tx;
use agent_core::{IdempotencyKey, Principal, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{ServerConfig, Verdict};
use crate::backend::sqlite::authority::{Answer as Kept, finish, keep_until};
use crate::error::{Error, Result};
use crate::mpp::problem::Problem;
use crate::mpp::receipt::Receipt;
use crate::transport::Answer;

/// The header that says an answer was given before.
const REPLAYED: &str = "idempotent-replayed";
/// The header of receipts.
pub(super) const RECEIPT: &str = "payment-receipt";
/// Headers that are of one connection, or are set anew.
const DROPPED: [&str; 7] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "date",
    "set-cookie",
    "payment-receipt",
    "www-authenticate",
];
/// The most headers that are kept.
const HEADERS_MAX: usize = 64;

/// What became of a credential.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// Who presented it; others get nothing of it.
    pub(super) buyer: Principal,
    /// How it ended.
    pub(super) end: End,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum End {
    /// The handler answered.
    Answered {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
        receipt: Option<Receipt>,
    },
    /// It was taken without a handler.
    Taken { receipt: Receipt },
    /// It pays for nothing any more.
    Closed { problem: String, detail: String },
}

impl Stored {
    /// Keeps what a handler said.
    pub(super) fn answered(
        buyer: Principal,
        answer: &Answer,
        receipt: Option<Receipt>,
    ) -> Result<Self> {
        if answer.body().len() > ServerConfig::ANSWER_BYTES_MAX {
            return Err(Error::invalid("answer", "more than 512 KiB are not kept"));
        }
        let kept = answer
            .headers()
            .iter()
            .filter(|(name, _)| !DROPPED.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let end = End::Answered {
            status: answer.status().as_u16(),
            headers: kept.take(HEADERS_MAX).collect(),
            body: STANDARD.encode(answer.body()),
            receipt,
        };
        Ok(Self { buyer, end })
    }

    pub(super) fn closed(buyer: Principal, problem: Problem, detail: &str) -> Self {
        let (problem, detail) = (problem.code().to_owned(), detail.to_owned());
        let end = End::Closed { problem, detail };
        Self { buyer, end }
    }

    /// Keeps it under a key that was begun, at least for as long as what it answers can be presented.
    pub(super) fn keep(
        &self,
        tx: &mut Tx<'_>,
        (scope, key): (&str, &IdempotencyKey),
        until: Timestamp,
    ) -> Result<()> {
        let status = match &self.end {
            End::Answered { status, .. } => *status,
            End::Taken { .. } => 200,
            End::Closed { .. } => 402,
        };
        let body = serde_json::to_string(self)
            .map_err(|_form| Error::corrupt("an answer has no JSON form"))?;
        finish(tx, scope, key, &Kept::new(status, body))?;
        keep_until(tx, scope, key, until)
    }

    /// Returns whether a kept answer was paid for, by this buyer.
    pub(super) fn is_paid_by(kept: &Kept, buyer: &Principal) -> Result<bool> {
        let stored = Self::read(kept)?;
        let is_paid = matches!(
            stored.end,
            End::Answered {
                receipt: Some(_),
                ..
            }
        );
        Ok(is_paid && stored.buyer == *buyer)
    }

    fn read(kept: &Kept) -> Result<Self> {
        serde_json::from_str(&kept.body)
            .map_err(|_form| Error::corrupt("a kept answer cannot be read"))
    }

    /// Makes the verdict for whoever presents the credential again.
    pub(super) fn again(kept: &Kept, buyer: &Principal) -> Result<Verdict> {
        let stored = Self::read(kept)?;
        if stored.buyer != *buyer {
            return Ok(somebody_elses());
        }
        Ok(match stored.end {
            End::Closed { problem, detail } => {
                let problem = Problem::from_code(&problem).unwrap_or(Problem::InvalidChallenge);
                Verdict::closed(problem, detail)
            }
            End::Taken { receipt } => Verdict::Taken(receipt),
            End::Answered {
                status,
                headers,
                body,
                receipt,
            } => {
                let body = STANDARD.decode(body);
                let body = body.map_err(|_form| Error::corrupt("a kept body cannot be read"))?;
                let mut answer = http::Response::builder().status(status);
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
                let answer = answer.header(REPLAYED, "true").body(body);
                let answer =
                    answer.map_err(|_form| Error::corrupt("a kept answer cannot be read"))?;
                Verdict::Replayed(with_receipt(answer, receipt.as_ref())?)
            }
        })
    }
}

/// The verdict for whoever presents what somebody else used.
pub(super) fn somebody_elses() -> Verdict {
    let detail = "the challenge was used by somebody else";
    Verdict::refused(Problem::InvalidChallenge, detail)
}

/// Adds the receipt, and keeps shared caches away from it.
pub(super) fn with_receipt(mut answer: Answer, receipt: Option<&Receipt>) -> Result<Answer> {
    let Some(receipt) = receipt else {
        return Ok(answer);
    };
    let field = receipt.to_field()?.parse();
    let field = field.map_err(|_form| Error::corrupt("a receipt no field can carry"))?;
    let headers = answer.headers_mut();
    headers.insert(RECEIPT, field);
    let private = http::HeaderValue::from_static("private");
    headers.insert(http::header::CACHE_CONTROL, private);
    Ok(answer)
}
