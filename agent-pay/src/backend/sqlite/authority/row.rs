//! Spends as they are stored.

use agent_core::store::{Tx, sql};
use agent_core::{Amount, Digest, IdempotencyKey, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::super::book::{batch_of, number};
use super::super::statement::{keys, run};
use super::nodes;
use crate::authority::{SpendHold, SpendState};
use crate::batch::State;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// A spend as it is stored.
pub(super) struct Spend {
    /// The batch that holds its first part.
    pub(super) batch: u64,
    pub(super) key: IdempotencyKey,
    pub(super) digest: Digest,
    pub(super) decision: u64,
    pub(super) node: BudgetPath,
    pub(super) payee: String,
    pub(super) asset: agent_core::Asset,
    pub(super) units: i64,
    pub(super) n_parts: u32,
    pub(super) n_counts: usize,
    pub(super) state: SpendState,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    pub(super) expires_at: Timestamp,
}

impl Spend {
    pub(super) fn amount(&self, units: i64) -> Amount {
        Amount::from_units(units.into(), self.asset)
    }

    pub(super) fn hold(&self) -> SpendHold {
        SpendHold {
            key: self.key.clone(),
            node: self.node.clone(),
            amount: self.amount(self.units),
            expires_at: self.expires_at,
            captured: self.amount(self.captured),
            refunded: self.amount(self.refunded),
            state: self.state,
        }
    }

    /// Returns whether it waits for its end, and the error if it does not.
    pub(super) fn check_open(&self, now: Timestamp) -> Result<()> {
        let resolved = |state| Error::Resolved {
            key: self.key.clone(),
            state,
        };
        match self.state {
            SpendState::Submitted => Ok(()),
            SpendState::Held if now < self.expires_at => Ok(()),
            SpendState::Held | SpendState::Expired => Err(Error::Expired {
                key: self.key.clone(),
                expired_at: self.expires_at,
            }),
            SpendState::Captured => Err(resolved(State::Posted)),
            SpendState::Released => Err(resolved(State::Voided)),
        }
    }
}

/// Returns the key of a part's batch: the first has the key of the intent.
pub(super) fn part_key(key: &IdempotencyKey, part: u32) -> Result<IdempotencyKey> {
    if part == 0 {
        return Ok(key.clone());
    }
    let digest = Digest::of_bytes(key.as_str().as_bytes());
    Ok(IdempotencyKey::new(format!(
        "agent-pay.part/{part}/{digest}"
    ))?)
}

/// Returns a spend; see [`SqliteAuthority::spend`](super::SqliteAuthority::spend).
///
/// # Errors
/// As there.
pub fn spend(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<SpendHold>> {
    Ok(read(tx, key)?.map(|spend| spend.hold()))
}

/// Lists spends without an outcome; see
/// [`SqliteAuthority::submitted`](super::SqliteAuthority::submitted).
///
/// # Errors
/// As there.
pub fn submitted(tx: &Tx<'_>, limit: usize) -> Result<Vec<IdempotencyKey>> {
    let select = "SELECT b.key FROM pay_spend s JOIN pay_batch b ON b.seq = s.batch \
                  WHERE s.state = 1 ORDER BY s.decision LIMIT ?1";
    keys(tx, select, limit)
}

pub(super) fn find(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Spend> {
    read(tx, key)?.ok_or_else(|| Error::KeyNotFound { key: key.clone() })
}

fn read(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<Spend>> {
    Ok(match under(tx, key)? {
        Under::Spend(spend) => Some(*spend),
        Under::Nothing | Under::Other => None,
    })
}

/// What there is under a key.
pub(super) enum Under {
    Nothing,
    /// A batch of the ledger that is no spend.
    Other,
    Spend(Box<Spend>),
}

/// Looks a key up: spends have no index of their own, since their first batches have their keys.
pub(super) fn under(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Under> {
    let operation = "read a spend";
    // No join: SQLite prepares one anew for each key.
    let Some(seq) = batch_of(tx, key)? else {
        return Ok(Under::Nothing);
    };
    let mut select = tx
        .sql()
        .prepare_cached(
            "SELECT digest, decision, node, payee, asset, units, n_parts, n_counts, state, \
             captured, refunded, expires_ms, batch FROM pay_spend WHERE batch = ?1",
        )
        .map_err(sql(operation))?;
    let found = select.query_row([seq], |row| Ok(parse(key, row)));
    Ok(match found.optional().map_err(sql(operation))? {
        None => Under::Other,
        Some(spend) => Under::Spend(Box::new(spend?)),
    })
}

fn parse(key: &IdempotencyKey, row: &Row<'_>) -> Result<Spend> {
    let broken = |what: &'static str| Error::corrupt(format!("a stored spend: {what}"));
    let at = sql("read a spend");
    let text = |n| row.get::<_, String>(n).map_err(sql("read a spend"));
    Ok(Spend {
        batch: number(row, 12)?,
        key: key.clone(),
        digest: Digest::from_bytes(row.get(0).map_err(at)?),
        decision: row
            .get::<_, i64>(1)
            .map_err(sql("read a spend"))?
            .try_into()
            .map_err(|_sign| broken("decision"))?,
        node: BudgetPath::new(&text(2)?)?,
        payee: text(3)?,
        asset: text(4)?.parse()?,
        units: row.get(5).map_err(sql("read a spend"))?,
        n_parts: row.get(6).map_err(sql("read a spend"))?,
        n_counts: row
            .get::<_, u32>(7)
            .map_err(sql("read a spend"))?
            .try_into()
            .map_err(|_sign| broken("counts"))?,
        state: SpendState::from_code(row.get(8).map_err(sql("read a spend"))?)?,
        captured: row.get(9).map_err(sql("read a spend"))?,
        refunded: row.get(10).map_err(sql("read a spend"))?,
        expires_at: Timestamp::from_unix_ms(row.get(11).map_err(sql("read a spend"))?),
    })
}

pub(super) fn update(tx: &Tx<'_>, spend: &Spend) -> Result<()> {
    run(
        tx,
        "UPDATE pay_spend SET units = ?2, n_parts = ?3, state = ?4, captured = ?5, refunded = ?6 \
         WHERE batch = ?1",
        params![
            nodes::number(spend.batch)?,
            spend.units,
            spend.n_parts,
            spend.state.code(),
            spend.captured,
            spend.refunded,
        ],
    )?;
    Ok(())
}
