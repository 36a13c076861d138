//! A facilitator whose chain is a ledger of this crate: for payments within a house, without a
//! network.

use std::sync::Arc;

use agent_core::{Amount, Asset, Classify, Clock, IdempotencyKey};
use async_trait::async_trait;

use super::{Facilitator, Settlement, Verdict};
use crate::account::{AccountName, Guard};
use crate::batch::{Batch, Entry, Found, TransferKind};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, LedgerExt};
use crate::x402::authorization::{Authorization, CanonicalKey};
use crate::x402::bytes::Address;
use crate::x402::chain::{Chain, Execution};
use crate::x402::check::check;
use crate::x402::eip712::Domain;
use crate::x402::message::{Kind, PaymentPayload, Supported};
use crate::x402::network::Network;
use crate::x402::requirements::Requirements;

/// Carries payments out in a ledger: one batch for each authorization, under its canonical key, so
/// that it settles once and settling it again is the same success.
///
/// It is the [`Chain`] of its payments too: an authorization that is looked up after its time is
/// closed, so that it cannot settle any more.
#[derive(Clone, Debug)]
pub struct LedgerFacilitator {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    domain: Domain,
    asset: Asset,
}

impl LedgerFacilitator {
    /// Takes payments signed under a domain as amounts of an asset: one atom of the token is one
    /// smallest unit. Accounts are named by [`LedgerFacilitator::account`].
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        domain: Domain,
        asset: Asset,
    ) -> Self {
        Self {
            ledger,
            clock,
            domain,
            asset,
        }
    }

    /// Returns the account of an address.
    ///
    /// # Errors
    /// None.
    pub fn account(address: &Address) -> Result<AccountName> {
        AccountName::new(&format!("x402/{}", hex::encode(address.as_bytes())))
    }

    fn now(&self) -> u64 {
        self.clock.now().as_unix_ms_u64() / 1_000
    }

    fn entry(&self, authorization: &Authorization) -> Result<Entry> {
        let units = i128::try_from(authorization.value.units())
            .map_err(|_range| Error::invalid("amount", "it does not fit"))?;
        let (from, to) = (&authorization.from, &authorization.to);
        let amount = Amount::from_units(units, self.asset);
        Ok(Entry::post(
            Self::account(from)?,
            Self::account(to)?,
            amount,
        ))
    }

    /// Returns what is in the ledger under the key of an authorization.
    async fn found(&self, key: IdempotencyKey, of: &Authorization) -> Result<Option<Execution>> {
        let found = self.ledger.find(key).await?;
        found.map(|found| self.execution(&found, of)).transpose()
    }

    fn execution(&self, found: &Found, authorization: &Authorization) -> Result<Execution> {
        let posted = found
            .receipt
            .transfers
            .iter()
            .find(|t| t.kind == TransferKind::Posted);
        let Some(transfer) = posted else {
            return Ok(Execution::never("authorization_expired"));
        };
        let entry = self.entry(authorization)?;
        let moved = Entry::post(
            transfer.debit.clone(),
            transfer.credit.clone(),
            transfer.amount,
        );
        Ok(if moved == entry {
            Execution::executed(format!("batch {}", found.receipt.seq))
        } else {
            Execution::never("nonce_used_otherwise")
        })
    }

    async fn post(&self, key: IdempotencyKey, authorization: &Authorization) -> Result<Execution> {
        let open = Self::account(&authorization.to)?;
        let open = Entry::open(self.asset, open, Guard::DebitsMustNotExceedCredits);
        let batch = Batch::new(key.clone(), vec![open, self.entry(authorization)?]);
        match self.ledger.post(batch).await {
            Ok(receipt) => Ok(Execution::executed(format!("batch {}", receipt.seq))),
            Err(Error::KeyReused { .. }) => {
                let found = self.found(key, authorization).await?;
                Ok(found.unwrap_or_else(|| Execution::never("nonce_used_otherwise")))
            }
            Err(error) => Err(error),
        }
    }
}

fn settlement(execution: Execution) -> Settlement {
    match execution {
        Execution::Executed { transaction } => Settlement::Settled { transaction },
        Execution::Never { code } => Settlement::failed(code),
        Execution::NotYet => Settlement::unknown("not yet"),
    }
}

#[async_trait]
impl Facilitator for LedgerFacilitator {
    async fn verify(&self, payment: PaymentPayload, asked: Requirements) -> Verdict {
        let invalid = |code: &str| Verdict::Invalid {
            code: code.to_owned(),
        };
        let authorization = &payment.signed.authorization;
        if asked.domain().ok().as_ref() != Some(&self.domain) {
            return invalid("invalid_network");
        }
        let key = match check(&payment, &asked, self.now()) {
            Ok(Ok(key)) => key,
            Ok(Err(mismatch)) => return invalid(mismatch.code()),
            Err(error) => return invalid(error.code()),
        };
        let asks = async {
            if self.found(key.key()?, authorization).await?.is_some() {
                return Ok(invalid("nonce_already_used"));
            }
            let payer = Self::account(&authorization.from)?;
            let left = match self.ledger.account(self.asset, payer).await {
                Ok(account) => {
                    let left = account.credits_posted().minus(account.debits_posted())?;
                    left.minus(account.debits_pending())?.units()
                }
                Err(Error::AccountNotFound { .. }) => 0,
                Err(error) => return Err(error),
            };
            let is_enough = u128::try_from(left).is_ok_and(|l| l >= authorization.value.units());
            Ok(if is_enough {
                Verdict::Valid
            } else {
                invalid("insufficient_funds")
            })
        };
        asks.await.unwrap_or_else(|e: Error| Verdict::Unknown {
            reason: e.to_string(),
        })
    }

    async fn settle(&self, payment: PaymentPayload, asked: Requirements) -> Settlement {
        let authorization = &payment.signed.authorization;
        if asked.domain().ok().as_ref() != Some(&self.domain) {
            return Settlement::failed("invalid_network");
        }
        let key = CanonicalKey::new(&self.domain, authorization).key();
        let done = match key {
            Ok(key) => self.found(key, authorization).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(Some(execution)) => return settlement(execution),
            Ok(None) => {}
            Err(error) => return Settlement::unknown(error.to_string()),
        }
        let key = match check(&payment, &asked, self.now()) {
            Ok(Ok(key)) => key,
            Ok(Err(mismatch)) => return Settlement::failed(mismatch.code()),
            Err(error) => return Settlement::failed(error.code()),
        };
        let posted = match key.key() {
            Ok(key) => self.post(key, authorization).await,
            Err(error) => Err(error),
        };
        match posted {
            Ok(execution) => settlement(execution),
            Err(error) if error.is_refusal() => Settlement::failed("insufficient_funds"),
            Err(error) => Settlement::unknown(error.to_string()),
        }
    }

    async fn supported(&self) -> Result<Supported> {
        let kinds = vec![Kind::exact(&Network::evm(self.domain.chain_id))];
        Ok(Supported {
            kinds,
            ..Supported::default()
        })
    }
}

#[async_trait]
impl Chain for LedgerFacilitator {
    async fn look_up(&self, domain: Domain, authorization: Authorization) -> Result<Execution> {
        if domain != self.domain {
            return Err(Error::invalid("chain", "the payment is of another"));
        }
        let key = CanonicalKey::new(&domain, &authorization).key()?;
        if let Some(execution) = self.found(key.clone(), &authorization).await? {
            return Ok(execution);
        }
        if self.now() < authorization.valid_before {
            return Ok(Execution::NotYet);
        }
        let closed = Entry::open(
            self.asset,
            AccountName::new("x402-closed")?,
            Guard::Unguarded,
        );
        let closing = Batch::new(key.clone(), vec![closed]).with_memo("closed");
        match self.ledger.post(closing).await {
            Ok(_receipt) => Ok(Execution::never("authorization_expired")),
            // It settled in between.
            Err(Error::KeyReused { .. }) => {
                let found = self.found(key, &authorization).await?;
                Ok(found.unwrap_or(Execution::NotYet))
            }
            Err(error) => Err(error),
        }
    }
}
