//! Buying: what an agent calls.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{IdempotencyKey, Principal};

use super::Buyer;
use super::purchase::{self, Asking, Row, Stage};
use super::rail::payee;
use super::send::Asked;
use crate::authority::{ApprovalRequest, Intent, Payee, Refusal, SpendHold};
use crate::backend::SqliteAuthority;
use crate::backend::sqlite::authority;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};
use crate::journal::Difference;
use crate::rail::{Paid, Payer};
use crate::transport::{Answer, Request};
use crate::x402::seller::answer::kept;

/// A request that may cost something, and who asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Purchase {
    /// The key of the operation; derive it with [`operation_key`](crate::authority::operation_key).
    pub key: IdempotencyKey,
    /// The node that pays.
    pub node: BudgetPath,
    /// Who spends.
    pub actor: Principal,
    /// For whom the actor acts.
    pub delegation: Vec<Principal>,
    /// What is asked for. It is sent once without a payment, and with it as often as it takes to know
    /// what became of it.
    pub request: Request,
    /// What kind of thing is bought.
    pub category: Option<String>,
    /// What for, in words. It is shown to people and decides nothing.
    pub purpose: String,
}

impl Purchase {
    /// Asks for something on the budget of a node.
    #[must_use]
    pub fn new(key: IdempotencyKey, node: BudgetPath, actor: Principal, request: Request) -> Self {
        let (delegation, category, purpose) = (Vec::new(), None, String::new());
        Self {
            key,
            node,
            actor,
            delegation,
            request,
            category,
            purpose,
        }
    }

    /// Sets for whom the actor acts. Default: nobody else.
    #[must_use]
    pub fn with_delegation(mut self, delegation: Vec<Principal>) -> Self {
        self.delegation = delegation;
        self
    }

    /// Sets what kind of thing is bought. Default: none.
    #[must_use]
    pub fn with_category(mut self, category: impl Into<String>) -> Self {
        self.category = Some(category.into());
        self
    }

    /// Sets what for. Default: nothing said.
    #[must_use]
    pub fn with_purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }
}

/// What asking came to.
#[derive(Clone, Debug)]
#[must_use = "money may have moved"]
#[non_exhaustive]
pub enum Fetched {
    /// It costs nothing, or the server answered something else than what it costs.
    Free(Answer),
    /// It is paid and booked.
    #[non_exhaustive]
    Bought {
        /// What was bought; none if the chain says that it is paid and the seller does not answer, or
        /// if it is longer than 640 KiB. Asking again with the same key asks the seller again. A seller who
        /// forgot the answer in the meantime says so with a status of its own (this crate's 410).
        answer: Option<Answer>,
        /// The hold, captured.
        hold: SpendHold,
    },
    /// It is not paid and what was held is free. The key is used up.
    Failed(SpendHold),
    /// It may be paid. What is held stays held; asking again with the same key pays nothing more.
    #[non_exhaustive]
    Unknown {
        /// The hold.
        hold: SpendHold,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Somebody must approve it first; then ask again with the same key.
    NeedsApproval(ApprovalRequest),
    /// It is not allowed.
    Denied(Refusal),
}

impl Buyer {
    /// Asks for something, and if it costs something, buys it if the authority allows.
    ///
    /// Repeating it with the same key and request after a crash, an approval or a lost answer pays at
    /// most once and gives the same answer.
    ///
    /// # Errors
    /// `Denied` ([`Error::SpendDenied`]) if no way to pay is listed or within its cap, `Conflict` for
    /// a key used with another request, `Unavailable` if nobody answers, those of
    /// [`SqliteAuthority::authorize`].
    ///
    /// # Cancel safety
    /// Atomic in its effect on the books; repeat it with the same key.
    pub async fn fetch(&self, authority: &SqliteAuthority, purchase: Purchase) -> Result<Fetched> {
        let intent = match self.intent(&purchase).await? {
            Ok(intent) => intent,
            Err(answer) => return Ok(Fetched::Free(answer)),
        };
        let key = intent.key.clone();
        match self.payer(authority).pay(intent).await? {
            Paid::Settled(hold) => {
                let answer = match self.bought(key.clone()).await? {
                    Some(answer) => Some(answer),
                    None => self.collect(key).await?,
                };
                Ok(Fetched::Bought { answer, hold })
            }
            Paid::Failed(hold) => Ok(Fetched::Failed(hold)),
            Paid::Unknown { hold, retry_after } => Ok(Fetched::Unknown { hold, retry_after }),
            Paid::NeedsApproval(request) => Ok(Fetched::NeedsApproval(request)),
            Paid::Denied(refusal) => {
                // The price may be another next time.
                self.inner
                    .db
                    .write(move |tx| purchase::forget(tx, &key))
                    .await?;
                Ok(Fetched::Denied(refusal))
            }
        }
    }

    /// Returns the payer of this rail, which reconciles what is unknown.
    #[must_use]
    pub fn payer(&self, authority: &SqliteAuthority) -> Payer {
        Payer::new(authority.clone(), Arc::new(self.clone()))
    }

    /// Returns what was bought under a key.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn bought(&self, key: IdempotencyKey) -> Result<Option<Answer>> {
        let row = self.find(&key).await?;
        let Some(text) = row.and_then(|row| row.answer) else {
            return Ok(None);
        };
        let (status, body) = crate::x402::store::stored(&text)?;
        kept(&authority::Answer::new(status, body)).map(Some)
    }

    /// Asks again for what is paid and did not come: the chain said that it is paid, or its answer
    /// was lost.
    async fn collect(&self, key: IdempotencyKey) -> Result<Option<Answer>> {
        let Some(row) = self.find(&key).await? else {
            return Ok(None);
        };
        let _known = self.send(&row).await?;
        self.bought(key).await
    }

    /// Returns the intent of a purchase, the stored one if there is; or the answer that is free.
    async fn intent(&self, purchase: &Purchase) -> Result<std::result::Result<Intent, Answer>> {
        let asking = Asking::new(&purchase.request);
        if let Some(row) = self.find(&purchase.key).await? {
            if row.asking != asking {
                let (key, differs) = (purchase.key.clone(), Difference::Entries);
                return Err(Error::KeyReused { key, differs });
            }
            let now = self.inner.env.clock.now();
            let is_over = |intent: &Intent| row.stage == Stage::Quoted && intent.expires_at <= now;
            match row.intent.clone() {
                Some(intent) if !is_over(&intent) => return Ok(Ok(intent)),
                Some(_) => {
                    let key = purchase.key.clone();
                    self.inner
                        .db
                        .write(move |tx| purchase::forget(tx, &key))
                        .await?;
                }
                None => {
                    let (key, differs) = (purchase.key.clone(), Difference::Entries);
                    return Err(Error::KeyReused { key, differs });
                }
            }
        }
        let required = match self.ask(&asking).await? {
            Asked::Free(answer) => return Ok(Err(answer)),
            Asked::Required(required) => required,
        };
        let chosen = self.choose(required, &asking.url)?;
        let until = self.inner.env.clock.now().after(self.inner.config.hold_for);
        let mut intent = Intent::new(
            purchase.key.clone(),
            purchase.node.clone(),
            purchase.actor.clone(),
            chosen.amount,
            Payee::new(payee(&chosen.asked), chosen.origin),
            until,
        )
        .with_basis(chosen.basis)
        .with_rail("x402")
        .with_delegation(purchase.delegation.clone())
        .with_resource(asking.url.clone(), purchase.purpose.clone());
        intent.category.clone_from(&purchase.category);
        intent.check()?;
        let row = Row::quoted(purchase.key.clone(), Some(intent), asking, chosen);
        let row = self.quote(row).await?;
        let missing = || Error::corrupt("a purchase has no intent");
        row.intent.ok_or_else(missing).map(Ok)
    }
}
