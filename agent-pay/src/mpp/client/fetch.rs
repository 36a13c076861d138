//! Getting what costs something, as far as the spend authority allows.

use std::sync::Arc;

use agent_core::{ErrorKind, Retry};
use http::StatusCode;

use super::{MppRail, Prepared, row};
use crate::authority::Intent;
use crate::backend::SqliteAuthority;
use crate::error::{Error, Result};
use crate::mpp::server::CHARGE;
use crate::rail::{Paid, Payer};
use crate::transport::{Answer, Lost, Request};

/// What came of a request that may cost something.
#[derive(Debug)]
#[must_use = "money may have moved"]
#[non_exhaustive]
pub enum Fetched {
    /// It cost nothing.
    Free(Answer),
    /// It was paid for and booked.
    #[non_exhaustive]
    Bought {
        /// The answer. Absent if it was settled before and the seller does not give it again.
        answer: Option<Answer>,
        /// What was booked.
        hold: crate::authority::SpendHold,
    },
    /// No offer of the seller was as the intent allows: asset, amount, payee and window.
    NotAsAllowed,
    /// It was not paid: denied, in need of an approval, failed, or not known yet.
    NotBought(Paid),
}

/// Fetches resources and pays for them under a spend authority. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shopper {
    pub(super) authority: SqliteAuthority,
    payer: Payer,
    pub(super) rail: MppRail,
}

impl Shopper {
    /// Pays over `rail` what `authority` allows.
    #[must_use]
    pub fn new(authority: SqliteAuthority, rail: MppRail) -> Self {
        let payer = Payer::new(authority.clone(), Arc::new(rail.clone()));
        Self {
            authority,
            payer,
            rail,
        }
    }

    /// Sends a request, and pays if it costs no more than the intent allows. The intent names the
    /// rail `mpp`, the URL as its resource and the seller's recipient as its payee. Repeating the
    /// call with the same intent pays at most once.
    ///
    /// # Errors
    /// `Invalid` if the intent is about something else; `Unavailable` if the price could not be
    /// asked for, where nothing was paid; else those of [`Payer::pay`].
    ///
    /// # Cancel safety
    /// As [`Payer::pay`].
    pub async fn fetch(&self, request: Request, intent: Intent) -> Result<Fetched> {
        if intent.resource != request.uri().to_string() || intent.rail != "mpp" {
            return Err(Error::invalid("intent", "it is about another resource"));
        }
        let id = intent.key.clone();
        if row::find(&self.rail.inner.db, id.clone()).await?.is_none() {
            let answer = self
                .rail
                .probe(request.clone())
                .await
                .map_err(unreachable)?;
            if answer.status() != StatusCode::PAYMENT_REQUIRED {
                return Ok(Fetched::Free(answer));
            }
            let allowed = (intent.payee.name.as_str(), intent.amount_max);
            let found = self
                .rail
                .acceptable(&answer, CHARGE, allowed, request.body());
            let Some((challenge, _)) = found else {
                return Ok(Fetched::NotAsAllowed);
            };
            let prepared = Prepared { request, challenge };
            self.rail.inner.prepared.lock().insert(id.clone(), prepared);
        }
        let paid = self.payer.pay(intent).await;
        self.rail.inner.prepared.lock().remove(&id);
        match paid? {
            Paid::Settled(hold) => {
                let answer = self.rail.inner.answers.lock().remove(&id);
                Ok(Fetched::Bought { answer, hold })
            }
            other => Ok(Fetched::NotBought(other)),
        }
    }

    /// Returns who pays, for what is not known yet: see [`Payer::reconcile`].
    #[must_use]
    pub const fn payer(&self) -> &Payer {
        &self.payer
    }
}

/// No answer came, and nothing was paid.
pub(super) fn unreachable(lost: Lost) -> Error {
    let (kind, retry) = (ErrorKind::Unavailable, Retry::Safe);
    Error::backend("mpp", "ask for the price", kind, retry, lost)
}
