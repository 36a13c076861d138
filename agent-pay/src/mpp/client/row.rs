//! What a buyer keeps of a payment: the challenge that was answered. The answer itself is signed
//! again when it is needed, so that nothing that pays is stored.

use agent_core::store::{Db, sql};
use agent_core::{Amount, IdempotencyKey};
use rusqlite::{OptionalExtension, params};

use super::bare;
use crate::error::{Error, Result};
use crate::mpp::challenge::Challenge;
use crate::transport::Request;

pub(super) const SCHEMA: &[&str] = &["
CREATE TABLE pay_mpp_payment (
    id TEXT PRIMARY KEY,
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    challenge TEXT NOT NULL,
    amount TEXT NOT NULL,
    kind INTEGER NOT NULL,
    state INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;
"];

/// How a payment stands, as far as the buyer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Sent,
    Settled,
    Failed,
    /// The seller did not take it when it came.
    Refused,
}

impl State {
    const ALL: [Self; 4] = [Self::Sent, Self::Settled, Self::Failed, Self::Refused];

    const fn code(self) -> u8 {
        match self {
            Self::Sent => 0,
            Self::Settled => 1,
            Self::Failed => 2,
            Self::Refused => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// What is paid, or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Charge,
    Session,
    Refund,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Charge, Self::Session, Self::Refund];

    const fn code(self) -> u8 {
        match self {
            Self::Charge => 0,
            Self::Session => 1,
            Self::Refund => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// A payment.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: IdempotencyKey,
    method: String,
    url: String,
    challenge: String,
    /// What is paid; of a session, what was promised.
    amount: String,
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) note: String,
}

impl Row {
    pub(super) fn charge(
        id: &IdempotencyKey,
        request: &Request,
        challenge: &Challenge,
        amount: Amount,
    ) -> Self {
        Self {
            id: id.clone(),
            method: request.method().to_string(),
            url: request.uri().to_string(),
            challenge: serde_json::to_string(challenge).unwrap_or_default(),
            amount: amount.to_string(),
            kind: Kind::Charge,
            state: State::Sent,
            note: String::new(),
        }
    }

    pub(super) fn session(
        id: &IdempotencyKey,
        request: &Request,
        challenge: &Challenge,
        nothing: Amount,
    ) -> Self {
        Self {
            kind: Kind::Session,
            ..Self::charge(id, request, challenge, nothing)
        }
    }

    /// Something that goes back of what this paid.
    pub(super) fn refund(&self, id: &IdempotencyKey, amount: Amount) -> Self {
        Self {
            id: id.clone(),
            amount: amount.to_string(),
            kind: Kind::Refund,
            state: State::Sent,
            note: String::new(),
            ..self.clone()
        }
    }

    pub(super) fn closed(id: &IdempotencyKey, code: &str) -> Self {
        Self {
            id: id.clone(),
            method: String::new(),
            url: String::new(),
            challenge: String::new(),
            amount: String::new(),
            kind: Kind::Charge,
            state: State::Failed,
            note: code.to_owned(),
        }
    }

    pub(super) fn amount(&self) -> Result<Amount> {
        Ok(self.amount.parse()?)
    }

    pub(super) fn challenge(&self) -> Result<Challenge> {
        serde_json::from_str(&self.challenge)
            .map_err(|_form| Error::corrupt("a stored challenge cannot be read"))
    }

    pub(super) fn request(&self) -> Result<Request> {
        bare(&self.method, &self.url)
    }
}

/// Keeps a payment and returns whether it is the first of its id.
pub(super) async fn insert(db: &Db, row: Row) -> Result<bool> {
    let statement = "INSERT OR IGNORE INTO pay_mpp_payment VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let inserted = db.write(move |tx| {
        let values = params![
            row.id.as_str(),
            row.method,
            row.url,
            row.challenge,
            row.amount,
            row.kind.code(),
            row.state.code(),
            row.note
        ];
        let n = tx
            .sql()
            .prepare_cached(statement)
            .and_then(|mut insert| insert.execute(values))
            .map_err(sql("keep a payment"))?;
        Ok::<_, Error>(n == 1)
    });
    inserted.await
}

/// Notes what became of a payment. What is final stays.
pub(super) async fn set(db: &Db, id: &IdempotencyKey, state: State, note: &str) -> Result<()> {
    let (id, note) = (id.clone(), note.to_owned());
    let statement = "UPDATE pay_mpp_payment SET state = ?2, note = ?3 \
                     WHERE id = ?1 AND state IN (0, 3)";
    let written = db.write(move |tx| {
        tx.sql()
            .prepare_cached(statement)
            .and_then(|mut update| update.execute(params![id.as_str(), state.code(), note]))
            .map_err(sql("note a payment"))?;
        Ok::<_, Error>(())
    });
    written.await
}

/// Notes what a session promised, before the promise is sent.
pub(super) async fn promise(db: &Db, id: &IdempotencyKey, amount: Amount) -> Result<()> {
    let (id, amount) = (id.clone(), amount.to_string());
    let written = db.write(move |tx| {
        tx.sql()
            .prepare_cached("UPDATE pay_mpp_payment SET amount = ?2 WHERE id = ?1 AND state = 0")
            .and_then(|mut update| update.execute(params![id.as_str(), amount]))
            .map_err(sql("note a promise"))?;
        Ok::<_, Error>(())
    });
    written.await
}

pub(super) async fn find(db: &Db, id: IdempotencyKey) -> Result<Option<Row>> {
    type Found = (String, String, String, String, u8, u8, String);
    let found = db.read(move |tx| {
        let read = |row: &rusqlite::Row<'_>| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
            ))
        };
        let row: Option<Found> = tx
            .sql()
            .prepare_cached("SELECT * FROM pay_mpp_payment WHERE id = ?1")
            .and_then(|mut select| select.query_row(params![id.as_str()], read).optional())
            .map_err(sql("find a payment"))?;
        let Some((method, url, challenge, amount, kind, state, note)) = row else {
            return Ok(None);
        };
        let state = State::from_code(state);
        let state = state.ok_or_else(|| Error::corrupt("a payment of an unknown state"))?;
        let kind = Kind::from_code(kind);
        let kind = kind.ok_or_else(|| Error::corrupt("a payment of an unknown kind"))?;
        Ok::<_, Error>(Some(Row {
            id,
            method,
            url,
            challenge,
            amount,
            kind,
            state,
            note,
        }))
    });
    found.await
}
