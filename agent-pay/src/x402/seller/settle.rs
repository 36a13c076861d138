//! Settlements: each is known to be done, known to have failed, or asked about until it is.

use agent_core::store::Tx;
use agent_core::{Digest, IdempotencyKey, Timestamp};
use rusqlite::params;

use super::Seller;
use crate::backend::sqlite::authority::{Answer, Begin, begin, finish};
use crate::backend::sqlite::statement::run;
use crate::backend::sqlite::turn::Turns;
use crate::error::{Error, Result};
use crate::x402::authorization::CanonicalKey;
use crate::x402::chain::Execution;
use crate::x402::facilitator::Settlement;
use crate::x402::message::PaymentPayload;
use crate::x402::requirements::Requirements;
use crate::x402::store::one;

pub(super) const SETTLE: &str = "x402/settle";
pub(super) const UNDO: &str = "x402/undo";

/// What is to be settled, asked about or taken back.
const UNKNOWN: Turns = Turns {
    list: "x402",
    // The words of the index, or it is not used.
    select: "SELECT at_ms, key FROM pay_x402_sale \
             WHERE ((state = 0 AND (n_tries > 0 OR work = 1)) OR (state = 2 AND work = 1)) \
             AND (at_ms, key) > (?1, ?2) AND at_ms < ?4 ORDER BY at_ms, key LIMIT ?3",
};

/// How a settlement stands, as it is stored.
const OPEN: u8 = 0;
const SETTLED: u8 = 1;
const FAILED: u8 = 2;

/// Whether work was done, as it is stored. 0 is no.
const WORKED: u8 = 1;
const UNDONE: u8 = 2;

/// A payment as it is stored.
pub(super) struct Taken {
    payment: String,
    asked: String,
    ends: Timestamp,
}

impl Taken {
    pub(super) fn new(payment: &PaymentPayload, asked: &Requirements) -> Self {
        Self {
            payment: payment.to_json().to_string(),
            asked: asked.raw().to_string(),
            ends: payment.signed.authorization.ends(),
        }
    }

    /// Stores it, unless it is.
    pub(super) fn insert(&self, tx: &Tx<'_>, key: &IdempotencyKey) -> Result<()> {
        let statement =
            "INSERT OR IGNORE INTO pay_x402_sale VALUES (?1, ?2, ?3, 0, 0, '', ?4, 0, ?5)";
        let values = params![
            key.as_str(),
            self.payment,
            self.asked,
            tx.now().as_unix_ms(),
            self.ends.as_unix_ms()
        ];
        run(tx, statement, values)?;
        Ok(())
    }
}

/// Returns whether a payment was taken.
pub(super) fn is_taken(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<bool> {
    let query = "SELECT 1 FROM pay_x402_sale WHERE key = ?1";
    Ok(one(tx, query, [key.as_str()], |row| row.get::<_, u8>(0))?.is_some())
}

/// Returns whether the answer of a payment was kept: its work is never done again, even if the answer
/// is gone.
pub(super) fn is_worked(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<bool> {
    let query = "SELECT 1 FROM pay_x402_sale WHERE key = ?1 AND work > 0";
    Ok(one(tx, query, [key.as_str()], |row| row.get::<_, u8>(0))?.is_some())
}

/// Returns the transaction of a payment that was sold for and whose answer is forgotten.
pub(super) fn forgotten(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Option<String>> {
    let query = "SELECT outcome FROM pay_x402_sale WHERE key = ?1 AND state = 1 AND work = 1 \
                 AND NOT EXISTS (SELECT 1 FROM pay_replay WHERE scope = 'x402/work' AND key = ?1)";
    one(tx, query, [key.as_str()], |row| row.get(0))
}

/// Notes that the work of a payment is done: one that is not settled is to be, or taken back.
pub(super) fn note_work(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<()> {
    set_work(tx, key, WORKED)
}

fn set_work(tx: &Tx<'_>, key: &IdempotencyKey, work: u8) -> Result<()> {
    let statement = "UPDATE pay_x402_sale SET work = ?2 WHERE key = ?1";
    run(tx, statement, params![key.as_str(), work])?;
    Ok(())
}

/// A payment as it is read.
struct Row {
    payment: PaymentPayload,
    asked: Requirements,
    state: u8,
    n_tries: u32,
    outcome: String,
    work: u8,
}

fn row(tx: &Tx<'_>, key: &IdempotencyKey) -> Result<Row> {
    let query =
        "SELECT payment, asked, state, n_tries, outcome, work FROM pay_x402_sale WHERE key = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ))
    };
    let found: Option<(String, String, u8, u32, String, u8)> =
        one(tx, query, [key.as_str()], read)?;
    let (payment, asked, state, n_tries, outcome, work) =
        found.ok_or_else(|| Error::KeyNotFound { key: key.clone() })?;
    let damaged = |_form| Error::corrupt("a stored payment is not readable");
    Ok(Row {
        payment: PaymentPayload::read(payment.as_bytes()).map_err(damaged)?,
        asked: Requirements::read(crate::x402::store::stored(&asked)?).map_err(damaged)?,
        state,
        n_tries,
        outcome,
        work,
    })
}

impl Row {
    fn known(&self) -> Option<Settlement> {
        match self.state {
            SETTLED => Some(Settlement::settled(self.outcome.clone())),
            FAILED => Some(Settlement::failed(self.outcome.clone())),
            _ => None,
        }
    }
}

impl Seller {
    /// Settles a payment that was stored, or says what became of it. At most one call at a time asks
    /// the facilitator. Where the work is done already a failure is for good, and the work is taken
    /// back.
    pub(super) async fn settle(&self, key: &IdempotencyKey) -> Result<Settlement> {
        let (of, lease) = (key.clone(), self.inner.config.settle_max);
        let begun = self.inner.db.write(move |tx| {
            let row = row(tx, &of)?;
            if row.known().is_some() {
                return Ok((row, false));
            }
            let digest = Digest::of_json(&("x402 settle v1", row.payment.to_json()))?;
            let is_begun = match begin(tx, SETTLE, &of, &digest, lease) {
                Ok(begun) => begun == Begin::Run,
                Err(Error::InFlight { .. }) => false,
                Err(error) => return Err(error),
            };
            let tries = "UPDATE pay_x402_sale SET n_tries = n_tries + 1 WHERE key = ?1";
            if is_begun {
                run(tx, tries, [of.as_str()])?;
            }
            Ok((row, is_begun))
        });
        let (row, is_begun) = begun.await?;
        let settlement = match row.known() {
            Some(known) => known,
            None if !is_begun => return Ok(Settlement::unknown("it is being settled")),
            None => {
                let settlement = self.ask(&row).await;
                self.book(key, &settlement, row.work == WORKED).await?;
                settlement
            }
        };
        if matches!(settlement, Settlement::Failed { .. }) && row.work == WORKED {
            self.undo(key, &row).await?;
        }
        Ok(settlement)
    }

    /// Asks the facilitator, and where it does not know, the chain.
    async fn ask(&self, row: &Row) -> Settlement {
        let (payment, asked) = (row.payment.clone(), row.asked.clone());
        let settlement = self.inner.facilitator.settle(payment, asked).await;
        let is_certain = match &settlement {
            Settlement::Settled { .. } => true,
            // An earlier call whose answer was lost may be why this one fails.
            Settlement::Failed { .. } => row.n_tries == 0,
            Settlement::Unknown { .. } => false,
        };
        if is_certain {
            return settlement;
        }
        let (Some(chain), Ok(domain)) = (&self.inner.config.chain, row.asked.domain()) else {
            return Settlement::unknown("nobody can say what became of it");
        };
        match chain
            .look_up(domain, row.payment.signed.authorization.clone())
            .await
        {
            Ok(Execution::Executed { transaction }) => Settlement::Settled { transaction },
            Ok(Execution::Never { code }) => Settlement::failed(code),
            Ok(Execution::NotYet) => Settlement::unknown("it is not carried out yet"),
            Err(error) => Settlement::unknown(error.to_string()),
        }
    }

    /// Books what became of a settlement. A failure after which the payment may be tried again is
    /// not kept, unless work was done for it.
    async fn book(
        &self,
        key: &IdempotencyKey,
        settlement: &Settlement,
        is_worked: bool,
    ) -> Result<()> {
        let (state, outcome, n_tries) = match settlement {
            Settlement::Settled { transaction } => (SETTLED, transaction.clone(), None),
            Settlement::Failed { code } if is_worked => (FAILED, code.clone(), None),
            Settlement::Failed { .. } => (OPEN, String::new(), Some(0)),
            Settlement::Unknown { .. } => (OPEN, String::new(), None),
        };
        let key = key.clone();
        let write = move |tx: &mut Tx<'_>| {
            let statement = "UPDATE pay_x402_sale SET state = ?2, outcome = ?3, \
                             n_tries = coalesce(?4, n_tries) WHERE key = ?1 AND state = 0";
            run(
                tx,
                statement,
                params![key.as_str(), state, outcome, n_tries],
            )?;
            // The sale itself says what became of it; the key is free for the next try.
            finish(tx, SETTLE, &key, &Answer::new(503, String::new()))
        };
        self.inner.db.write(write).await
    }

    async fn undo(&self, key: &IdempotencyKey, row: &Row) -> Result<()> {
        let Some(undo) = &self.inner.config.undo else {
            // Nobody takes it back, so nobody need ask again.
            let of = key.clone();
            let write = self.inner.db.write(move |tx| set_work(tx, &of, UNDONE));
            return write.await;
        };
        let digest = Digest::of_json(&("x402 undo v1", key))?;
        let (of, lease) = (key.clone(), self.inner.config.work_max);
        let begun = self
            .inner
            .db
            .write(move |tx| begin(tx, UNDO, &of, &digest, lease))
            .await;
        match begun {
            Ok(Begin::Run) => {}
            Ok(Begin::Replay(_)) | Err(Error::InFlight { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let domain = row.asked.domain()?;
        let payment = CanonicalKey::new(&domain, &row.payment.signed.authorization);
        let undone = undo.undo(payment).await;
        let status = if undone.is_ok() { 200 } else { 503 };
        let (of, answer) = (key.clone(), Answer::new(status, String::new()));
        let is_undone = undone.is_ok();
        let write = move |tx: &mut Tx<'_>| {
            if is_undone {
                set_work(tx, &of, UNDONE)?;
            }
            finish(tx, UNDO, &of, &answer)
        };
        self.inner.db.write(write).await?;
        undone
    }

    /// Settles and asks about at most `limit` payments of which nobody knows what became, and returns
    /// how many of them are known now: those whose settlement was not heard of, and those whose work was
    /// done by a process that died before it settled. Work whose payment failed is taken back. Call it
    /// from time to time and after a restart: the next call goes on with the payments after these, and
    /// from the oldest after the newest, so that each is reached, however many stay unknown.
    ///
    /// # Errors
    /// Those of the store, and of [`Undo`](super::Undo) when all payments were asked about.
    ///
    /// # Cancel safety
    /// Atomic for each payment.
    pub async fn reconcile(&self, limit: usize) -> Result<usize> {
        let (mut n_known, mut failed) = (0_usize, None);
        let unknown = self.inner.db.write(move |tx| UNKNOWN.keys(tx, limit));
        for key in unknown.await? {
            match self.settle(&key).await {
                Ok(Settlement::Unknown { .. }) => {}
                Ok(_) => n_known = n_known.saturating_add(1),
                // One that cannot be taken back must not keep the others from it.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(n_known), Err)
    }
}
