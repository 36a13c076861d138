//! Giving back: the protocol has no refunds, so who was paid pays back what they choose to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Db, Tx};
use agent_core::{Amount, Env, IdempotencyKey};
use async_trait::async_trait;
use rusqlite::params;

use super::atomic::Atomic;
use super::authorization::{Authorization, CanonicalKey, Signed};
use super::bytes::Bytes32;
use super::chain::{Chain, Execution};
use super::facilitator::{Facilitator, Settlement};
use super::key::Signer;
use super::message::PaymentPayload;
use super::requirements::Requirements;
use super::store::{one, stored};
use crate::backend::sqlite::statement::run;
use crate::error::{Error, Result};
use crate::rail::{Outcome, Payment};

/// Gives back what was paid.
///
/// This is the contract for _implementors_: under one id at most one refund moves, all refunds of a
/// payment together move at most what was paid, and an outcome that is final stays.
#[async_trait]
pub trait Refunds: fmt::Debug + Send + Sync + 'static {
    /// Gives so many atoms of a settled payment back, under the id of the refund.
    ///
    /// # Errors
    /// Those of the store; nothing is known then.
    ///
    /// # Cancel safety
    /// Repeat it with the same refund, or look it up.
    async fn refund(
        &self,
        paid: Authorization,
        asked: Requirements,
        refund: Payment,
        atoms: Atomic,
    ) -> Result<Outcome>;

    /// Says how a refund stands; none if nobody knows of it.
    ///
    /// # Errors
    /// Those of the store; nothing is known then.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn look_up(&self, id: IdempotencyKey) -> Result<Option<Outcome>>;
}

/// Pays back with the key that was paid, as a payment in the other direction: signed once, stored,
/// and carried out by a facilitator. For the side that sold.
#[derive(Clone)]
pub struct PayBack {
    db: Db,
    env: Env,
    signer: Arc<dyn Signer>,
    facilitator: Arc<dyn Facilitator>,
    chain: Arc<dyn Chain>,
}

impl fmt::Debug for PayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayBack")
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

const SOON: Duration = Duration::from_secs(2);

impl PayBack {
    /// Opens it in a store, creating or migrating its tables.
    ///
    /// # Errors
    /// `Unsupported` if the store was written by a later version, else those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        db: Db,
        env: Env,
        signer: Arc<dyn Signer>,
        facilitator: Arc<dyn Facilitator>,
        chain: Arc<dyn Chain>,
    ) -> Result<Self> {
        super::store::migrate(&db).await?;
        Ok(Self {
            db,
            env,
            signer,
            facilitator,
            chain,
        })
    }

    async fn signed(
        &self,
        paid: &Authorization,
        asked: &Requirements,
        atoms: Atomic,
    ) -> Result<(Requirements, PaymentPayload)> {
        let domain = asked.domain()?;
        let back = Requirements::new(&domain, paid.from, atoms, asked.max_timeout_seconds)?;
        let mut nonce = [0_u8; 32];
        self.env.entropy.fill(&mut nonce);
        let now = self.env.clock.now().as_unix_ms_u64() / 1_000;
        let times = (
            now.saturating_sub(600),
            now.saturating_add(asked.max_timeout_seconds),
        );
        let parties = (self.signer.address(), paid.from);
        let authorization = Authorization::new(parties, atoms, times, Bytes32::from_bytes(nonce));
        let signature = self.signer.sign(domain.digest(&authorization)).await?;
        let payment = PaymentPayload::new(back.clone(), Signed::new(authorization, signature));
        Ok((back, payment))
    }

    async fn carry_out(&self, id: &IdempotencyKey, row: Row) -> Result<Outcome> {
        if let Some(known) = row.known() {
            return Ok(known);
        }
        let (asked, authorization) = (row.asked.clone(), row.payment.signed.authorization.clone());
        let domain = asked.domain()?;
        let settlement = self.facilitator.settle(row.payment.clone(), asked).await;
        let outcome = match settlement {
            Settlement::Settled { transaction } => Outcome::settled(row.amount, transaction),
            _ => match self.chain.look_up(domain, authorization).await {
                Ok(Execution::Executed { transaction }) => {
                    Outcome::settled(row.amount, transaction)
                }
                Ok(Execution::Never { code }) => Outcome::failed(code),
                Ok(Execution::NotYet) | Err(_) => Outcome::unknown(SOON, "not carried out yet"),
            },
        };
        let (state, text) = match &outcome {
            Outcome::Settled { reference, .. } => (1_u8, reference.clone()),
            Outcome::Failed { code } => (2, code.clone()),
            Outcome::Unknown { .. } => return Ok(outcome),
        };
        let id = id.clone();
        let statement =
            "UPDATE pay_x402_refund SET state = ?2, outcome = ?3 WHERE id = ?1 AND state = 0";
        self.db
            .write(move |tx| run(tx, statement, params![id.as_str(), state, text]))
            .await?;
        Ok(outcome)
    }
}

/// A refund as it is stored.
struct Row {
    asked: Requirements,
    payment: PaymentPayload,
    amount: Amount,
    state: u8,
    outcome: String,
}

impl Row {
    fn known(&self) -> Option<Outcome> {
        match self.state {
            1 => Some(Outcome::settled(self.amount, self.outcome.clone())),
            2 => Some(Outcome::failed(self.outcome.clone())),
            _ => None,
        }
    }
}

fn find(tx: &Tx<'_>, id: &IdempotencyKey) -> Result<Option<Row>> {
    let query = "SELECT asked, payment, amount, state, outcome FROM pay_x402_refund WHERE id = ?1";
    let found: Option<([String; 3], u8, String)> = one(tx, query, [id.as_str()], |row| {
        Ok((
            [row.get(0)?, row.get(1)?, row.get(2)?],
            row.get(3)?,
            row.get(4)?,
        ))
    })?;
    let Some(([asked, payment, amount], state, outcome)) = found else {
        return Ok(None);
    };
    let asked = Requirements::read(stored(&asked)?)?;
    let payment = PaymentPayload::read(payment.as_bytes())?;
    Ok(Some(Row {
        asked,
        payment,
        amount: amount.parse()?,
        state,
        outcome,
    }))
}

/// Returns what of a payment is given back or on its way, in atoms.
fn given_back(tx: &Tx<'_>, of: &str) -> Result<u128> {
    let query = "SELECT coalesce(json_group_array(atoms), '[]') FROM pay_x402_refund \
                 WHERE of = ?1 AND state < 2";
    let atoms: Option<String> = one(tx, query, [of], |row| row.get(0))?;
    let atoms: Vec<Atomic> = stored(&atoms.unwrap_or_else(|| "[]".to_owned()))?;
    let sum = atoms
        .iter()
        .try_fold(0_u128, |sum, atoms| sum.checked_add(atoms.units()));
    sum.ok_or_else(|| Error::corrupt("refunds of more than there is"))
}

#[async_trait]
impl Refunds for PayBack {
    async fn refund(
        &self,
        paid: Authorization,
        asked: Requirements,
        refund: Payment,
        atoms: Atomic,
    ) -> Result<Outcome> {
        if asked.pay_to != self.signer.address() || paid.to != self.signer.address() {
            return Ok(Outcome::failed("paid_to_somebody_else"));
        }
        let (id, of) = (
            refund.id.clone(),
            CanonicalKey::new(&asked.domain()?, &paid),
        );
        let known = refund.id.clone();
        let row = match self.db.read(move |tx| find(tx, &known)).await? {
            Some(row) => row,
            None => {
                let (back, payment) = self.signed(&paid, &asked, atoms).await?;
                let (id, amount, value) = (id.clone(), refund.amount, paid.value.units());
                let write = move |tx: &mut Tx<'_>| {
                    if let Some(row) = find(tx, &id)? {
                        return Ok(Some(row));
                    }
                    let all = given_back(tx, of.as_str())?.checked_add(atoms.units());
                    if atoms.units() == 0 || all.is_none_or(|all| all > value) {
                        return Ok(None);
                    }
                    let statement = "INSERT INTO pay_x402_refund \
                                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, '', ?7)";
                    let (asked, payment) = (back.raw().to_string(), payment.to_json().to_string());
                    let (amount, at) = (amount.to_string(), tx.now().as_unix_ms());
                    let atoms = atoms.to_string();
                    let values =
                        params![id.as_str(), of.as_str(), asked, payment, amount, atoms, at];
                    run(tx, statement, values)?;
                    find(tx, &id)
                };
                match self.db.write(write).await? {
                    Some(row) => row,
                    None => return Ok(Outcome::failed("exceeds_payment")),
                }
            }
        };
        self.carry_out(&id, row).await
    }

    async fn look_up(&self, id: IdempotencyKey) -> Result<Option<Outcome>> {
        let of = id.clone();
        match self.db.read(move |tx| find(tx, &of)).await? {
            Some(row) => self.carry_out(&id, row).await.map(Some),
            None => Ok(None),
        }
    }
}
