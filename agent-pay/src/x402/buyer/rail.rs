//! The buyer as a rail.

use std::time::Duration;

use agent_core::{Classify, IdempotencyKey};
use async_trait::async_trait;

use super::Buyer;
use super::purchase::{self, Asking, Row, Stage};
use super::send::Asked;
use crate::error::{Error, Result};
use crate::rail::{Outcome, Payment, Rail};
use crate::x402::requirements::Requirements;

/// Names who is paid as policies list it: the account by CAIP-10.
pub(super) fn payee(asked: &Requirements) -> String {
    format!("{}:{}", asked.network, asked.pay_to)
}

impl Buyer {
    pub(super) async fn find(&self, id: &IdempotencyKey) -> Result<Option<Row>> {
        let id = id.clone();
        self.inner.db.read(move |tx| purchase::find(tx, &id)).await
    }

    /// Stores a quote unless there is one, and returns what is stored.
    pub(super) async fn quote(&self, row: Row) -> Result<Row> {
        let write = move |tx: &mut agent_core::store::Tx<'_>| {
            row.insert(tx)?;
            let found = purchase::find(tx, &row.id)?;
            found.ok_or_else(|| Error::corrupt("a purchase is gone"))
        };
        self.inner.db.write(write).await
    }

    /// Finds the purchase of a payment, or asks the payee's resource what it costs.
    async fn purchase(&self, payment: &Payment) -> Result<std::result::Result<Row, Outcome>> {
        if let Some(row) = self.find(&payment.id).await? {
            return Ok(Ok(row));
        }
        let shop = self.inner.config.shops.get(&payment.payee);
        let url = match (payment.resource.as_str(), shop) {
            ("", Some(url)) => url.as_str(),
            ("", None) => return Ok(Err(Outcome::failed("no_resource"))),
            (url, _) => url,
        };
        let asking = Asking::get(url);
        let chosen = match self.ask(&asking).await? {
            Asked::Free(_) => return Ok(Err(Outcome::failed("nothing_to_pay"))),
            Asked::Required(required) => self.choose(required, url)?,
        };
        self.quote(Row::quoted(payment.id.clone(), None, asking, chosen))
            .await
            .map(Ok)
    }

    async fn try_pay(&self, payment: &Payment) -> Result<Outcome> {
        let row = match self.purchase(payment).await? {
            Ok(row) => row,
            Err(outcome) => return Ok(outcome),
        };
        if let Some(known) = row.known() {
            return Ok(known);
        }
        let is_new = row.stage == Stage::Quoted;
        let fits = row
            .amount
            .compare(&payment.amount)
            .is_ok_and(|order| order.is_le());
        if is_new && (payee(&row.asked) != payment.payee || !fits) {
            return self.close(&payment.id).await;
        }
        let row = self.signed(row).await?;
        match row.known() {
            Some(known) => Ok(known),
            None => self.send(&row).await,
        }
    }

    async fn try_look_up(&self, id: &IdempotencyKey) -> Result<Outcome> {
        let row = match self.find(id).await? {
            Some(row) if row.stage != Stage::Quoted => row,
            _ => return self.close(id).await,
        };
        if let Some(known) = row.known() {
            return Ok(known);
        }
        // The same payment, so that a server that has it answers with what it kept.
        match self.send(&row).await? {
            outcome if outcome.is_final() => Ok(outcome),
            unknown => self.ask_chain(&row, unknown).await,
        }
    }

    /// Closes an id nothing was signed under, or says how it stands.
    async fn close(&self, id: &IdempotencyKey) -> Result<Outcome> {
        let of = id.clone();
        let closed = self.inner.db.write(move |tx| {
            purchase::close(tx, &of)?;
            purchase::find(tx, &of)
        });
        let row: Option<Row> = closed.await?;
        let known = row.and_then(|row| row.known());
        Ok(known.unwrap_or_else(|| Outcome::unknown(SOON, "it is being paid")))
    }
}

const SOON: Duration = Duration::from_secs(1);

/// What an error before the payment was sent comes to: another call may do better.
fn unknown(error: &Error) -> Outcome {
    Outcome::unknown(SOON, error.to_string())
}

#[async_trait]
impl Rail for Buyer {
    fn name(&self) -> &'static str {
        "x402"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        match self.try_pay(&payment).await {
            Ok(outcome) => outcome,
            Err(Error::SpendDenied { .. } | Error::Invalid { .. }) => {
                let closed = self.close(&payment.id).await;
                closed.unwrap_or_else(|error| unknown(&error))
            }
            Err(error) => unknown(&error),
        }
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        if let Some(refunds) = &self.inner.config.refunds {
            match refunds.look_up(id.clone()).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => return unknown(&error),
            }
        }
        match self.try_look_up(&id).await {
            Ok(outcome) => outcome,
            Err(error) => unknown(&error),
        }
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        let Some(refunds) = &self.inner.config.refunds else {
            return Outcome::failed("refunds_unsupported");
        };
        let row = match self.find(&payment).await {
            Ok(Some(row)) if row.stage == Stage::Settled => row,
            Ok(_) => return Outcome::failed("no_payment"),
            Err(error) => return Outcome::failed(error.code()),
        };
        let Some(paid) = row.payment else {
            return Outcome::failed("no_payment");
        };
        // A refund moves the token of its payment, in the same proportion of atoms and units.
        let units = refund.amount.units();
        let of = row.amount.units();
        let atoms = u128::try_from(units)
            .ok()
            .filter(|_| refund.amount.asset() == row.amount.asset());
        let atoms = atoms.and_then(|units| {
            let whole = row.asked.amount.units().checked_mul(units)?;
            let of = u128::try_from(of).ok()?;
            (whole.checked_rem(of)? == 0)
                .then(|| whole.checked_div(of))
                .flatten()
        });
        let Some(atoms) = atoms else {
            return Outcome::failed("no_such_amount");
        };
        let atoms = crate::x402::Atomic::new(atoms);
        match refunds
            .refund(paid.signed.authorization, row.asked, refund, atoms)
            .await
        {
            Ok(outcome) => outcome,
            Err(error) => unknown(&error),
        }
    }
}
