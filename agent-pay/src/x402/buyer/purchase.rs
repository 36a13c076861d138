//! Purchases as they are stored: what was asked, what was signed, and what came of it.

use agent_core::store::Tx;
use agent_core::{Amount, IdempotencyKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::choose::Chosen;
use crate::authority::Intent;
use crate::backend::sqlite::statement::run;
use crate::error::{Error, Result};
use crate::rail::Outcome;
use crate::transport::Request;
use crate::x402::message::{PaymentPayload, Version};
use crate::x402::requirements::{Requirements, ResourceInfo};
use crate::x402::store::{one, stored};

/// How a purchase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is signed.
    Quoted,
    /// It is signed, and may be with the server.
    Signed,
    /// It is paid.
    Settled,
    /// It is not paid and never will be.
    Failed,
}

impl Stage {
    const fn code(self) -> u8 {
        match self {
            Self::Quoted => 0,
            Self::Signed => 1,
            Self::Settled => 2,
            Self::Failed => 3,
        }
    }

    fn from_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::Quoted),
            1 => Ok(Self::Signed),
            2 => Ok(Self::Settled),
            3 => Ok(Self::Failed),
            _ => Err(Error::corrupt("a purchase in no known stage")),
        }
    }
}

/// A request as it is stored and sent, twice if need be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asking {
    pub(super) method: String,
    pub(super) url: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asking {
    pub(super) fn new(request: &Request) -> Self {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), STANDARD.encode(value.as_bytes()))
        };
        Self {
            method: request.method().as_str().to_owned(),
            url: request.uri().to_string(),
            headers: request.headers().iter().map(header).collect(),
            body: STANDARD.encode(request.body()),
        }
    }

    pub(super) fn get(url: &str) -> Self {
        let (method, url) = ("GET".to_owned(), url.to_owned());
        Self {
            method,
            url,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(super) fn request(&self) -> Result<Request> {
        let wrong = || Error::invalid("request", "it is no request of HTTP");
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_form| wrong());
        let mut builder = http::Request::builder()
            .method(self.method.as_str())
            .uri(&self.url);
        for (name, value) in &self.headers {
            builder = builder.header(name, bytes(value)?);
        }
        builder.body(bytes(&self.body)?).map_err(|_form| wrong())
    }
}

/// The terms that were chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Terms {
    version: u8,
    requirements: Value,
    resource: Option<ResourceInfo>,
    extensions: Map<String, Value>,
}

/// A purchase.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: IdempotencyKey,
    pub(super) stage: Stage,
    pub(super) intent: Option<Intent>,
    pub(super) asking: Asking,
    pub(super) version: Version,
    pub(super) asked: Requirements,
    pub(super) resource: Option<ResourceInfo>,
    pub(super) extensions: Map<String, Value>,
    pub(super) amount: Amount,
    pub(super) payment: Option<PaymentPayload>,
    pub(super) n_sent: u32,
    outcome: String,
    pub(super) answer: Option<String>,
}

impl Row {
    pub(super) fn quoted(
        id: IdempotencyKey,
        intent: Option<Intent>,
        asking: Asking,
        chosen: Chosen,
    ) -> Self {
        Self {
            id,
            stage: Stage::Quoted,
            intent,
            asking,
            version: chosen.version,
            asked: chosen.asked,
            resource: chosen.resource,
            extensions: chosen.extensions,
            amount: chosen.amount,
            payment: None,
            n_sent: 0,
            outcome: String::new(),
            answer: None,
        }
    }

    /// Returns what is known for good.
    pub(super) fn known(&self) -> Option<Outcome> {
        match self.stage {
            Stage::Quoted | Stage::Signed => None,
            Stage::Settled => Some(Outcome::settled(self.amount, self.outcome.clone())),
            Stage::Failed => Some(Outcome::failed(self.outcome.clone())),
        }
    }

    /// Stores a quoted purchase, unless one is.
    pub(super) fn insert(&self, tx: &Tx<'_>) -> Result<()> {
        let damaged = |_form| Error::invalid("purchase", "it cannot be stored");
        let terms = Terms {
            version: if self.version == Version::V1 { 1 } else { 2 },
            requirements: self.asked.raw().clone(),
            resource: self.resource.clone(),
            extensions: self.extensions.clone(),
        };
        let intent = self.intent.as_ref().map(serde_json::to_string).transpose();
        let values = params![
            self.id.as_str(),
            self.stage.code(),
            intent.map_err(damaged)?,
            serde_json::to_string(&self.asking).map_err(damaged)?,
            serde_json::to_string(&terms).map_err(damaged)?,
            self.amount.to_string(),
            tx.now().as_unix_ms(),
        ];
        let statement = "INSERT OR IGNORE INTO pay_x402_purchase \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, 0, '', NULL, ?7)";
        run(tx, statement, values)?;
        Ok(())
    }
}

pub(super) fn find(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<Option<Row>> {
    type Columns = (
        u8,
        Option<String>,
        [String; 3],
        Option<String>,
        u32,
        String,
        Option<String>,
    );
    let query = "SELECT state, intent, request, asked, amount, payment, n_sent, outcome, answer \
                 FROM pay_x402_purchase WHERE id = ?1";
    let found: Option<Columns> = one(tx, query, [id.as_str()], |row| {
        let texts = [row.get(2)?, row.get(3)?, row.get(4)?];
        Ok((
            row.get(0)?,
            row.get(1)?,
            texts,
            row.get(5)?,
            row.get(6)?,
            row.get(7)?,
            row.get(8)?,
        ))
    })?;
    let Some((code, intent, [asking, terms, amount], payment, n_sent, outcome, answer)) = found
    else {
        return Ok(None);
    };
    if terms.is_empty() {
        return Ok(Some(closed(id, outcome)?));
    }
    let terms: Terms = stored(&terms)?;
    let (version, read): (_, fn(Value) -> Result<Requirements>) = match terms.version {
        1 => (Version::V1, Requirements::read_v1),
        _ => (Version::V2, Requirements::read),
    };
    let payment = payment
        .as_deref()
        .map(|text| PaymentPayload::read(text.as_bytes()));
    Ok(Some(Row {
        id: id.clone(),
        stage: Stage::from_code(code)?,
        intent: intent.as_deref().map(stored).transpose()?,
        asking: stored(&asking)?,
        version,
        asked: read(terms.requirements)?,
        resource: terms.resource,
        extensions: terms.extensions,
        amount: amount.parse()?,
        payment: payment.transpose()?,
        n_sent,
        outcome,
        answer,
    }))
}

/// A purchase that was closed before anything was known of it.
fn closed(id: &IdempotencyKey, outcome: String) -> Result<Row> {
    use crate::x402::{Address, Atomic, Domain};
    let nobody = Address::from_bytes([0; 20]);
    let asked = Requirements::new(&Domain::new("-", "-", 0, nobody), nobody, Atomic::new(0), 1)?;
    Ok(Row {
        id: id.clone(),
        stage: Stage::Failed,
        intent: None,
        asking: Asking::get(""),
        version: Version::V2,
        asked,
        resource: None,
        extensions: Map::new(),
        amount: Amount::zero(agent_core::Asset::USD),
        payment: None,
        n_sent: 0,
        outcome,
        answer: None,
    })
}

/// Stores what is signed, unless something is; from here on it may be with the server.
pub(super) fn sign(tx: &Tx<'_>, id: &IdempotencyKey, payment: &PaymentPayload) -> Result<()> {
    let statement =
        "UPDATE pay_x402_purchase SET state = 1, payment = ?2 WHERE id = ?1 AND state = 0";
    run(
        tx,
        statement,
        params![id.as_str(), payment.to_json().to_string()],
    )?;
    Ok(())
}

/// Counts a sending before it is made.
pub(super) fn count(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<()> {
    run(
        tx,
        "UPDATE pay_x402_purchase SET n_sent = n_sent + 1 WHERE id = ?1",
        [id.as_str()],
    )?;
    Ok(())
}

/// Stores an outcome that is final, and the answer. An outcome that is stored stays.
pub(super) fn end(
    tx: &Tx<'_>,
    id: &IdempotencyKey,
    outcome: &Outcome,
    answer: Option<&str>,
) -> Result<()> {
    let (stage, text) = match outcome {
        Outcome::Settled { reference, .. } => (Stage::Settled, reference.as_str()),
        Outcome::Failed { code } => (Stage::Failed, code.as_str()),
        Outcome::Unknown { .. } => return Ok(()),
    };
    let statement = "UPDATE pay_x402_purchase SET state = ?2, outcome = ?3, answer = ?4 \
                     WHERE id = ?1 AND state IN (0, 1)";
    run(
        tx,
        statement,
        params![id.as_str(), stage.code(), text, answer],
    )?;
    let late = "UPDATE pay_x402_purchase SET answer = ?2 \
                WHERE id = ?1 AND state = 2 AND answer IS NULL";
    run(tx, late, params![id.as_str(), answer])?;
    Ok(())
}

/// Closes an id nothing was signed under, so that nothing will be.
pub(super) fn close(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<()> {
    let insert = "INSERT OR IGNORE INTO pay_x402_purchase \
                  VALUES (?1, 3, NULL, '', '', '', NULL, 0, 'closed', NULL, ?2)";
    run(tx, insert, params![id.as_str(), tx.now().as_unix_ms()])?;
    let statement =
        "UPDATE pay_x402_purchase SET state = 3, outcome = 'closed' WHERE id = ?1 AND state = 0";
    run(tx, statement, [id.as_str()])?;
    Ok(())
}

/// Forgets a quote nothing was signed for.
pub(super) fn forget(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<()> {
    run(
        tx,
        "DELETE FROM pay_x402_purchase WHERE id = ?1 AND state = 0",
        [id.as_str()],
    )?;
    Ok(())
}
