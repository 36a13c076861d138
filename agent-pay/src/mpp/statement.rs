//! The proof of the method `ledger`: what a buyer orders, signed by the buyer's key.

use agent_core::{Amount, IdempotencyKey, Principal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::signed::{self, SignKey, VerifyKey};

/// What the statements are signed as.
const KIND: &str = "agent-pay.mpp-order+jws";

/// What a buyer orders about one challenge. The name of the signing key is the buyer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Order {
    /// Pay a charge, or the deposit of a session.
    #[non_exhaustive]
    Pay {
        /// The challenge.
        challenge: String,
        /// Who pays.
        buyer: Principal,
        /// How much.
        amount: Amount,
        /// Whom: an account of the seller's ledger.
        recipient: String,
    },
    /// Put more into the deposit of a session.
    #[non_exhaustive]
    TopUp {
        /// The challenge the session was opened with.
        challenge: String,
        /// Who pays.
        buyer: Principal,
        /// Which top-up, counted from 1.
        part: u32,
        /// How much.
        amount: Amount,
    },
    /// Say how a payment stands, and take none that did not arrive yet.
    #[non_exhaustive]
    Void {
        /// The challenge.
        challenge: String,
        /// Who would have paid.
        buyer: Principal,
    },
    /// Give part of a charge back.
    #[non_exhaustive]
    Refund {
        /// The challenge that was paid.
        challenge: String,
        /// Who paid.
        buyer: Principal,
        /// The name of the refund, so that repeating it is harmless.
        refund: IdempotencyKey,
        /// How much.
        amount: Amount,
    },
}

impl Order {
    /// Orders to pay.
    #[must_use]
    pub fn pay(challenge: &str, buyer: &Principal, amount: Amount, recipient: &str) -> Self {
        let (challenge, buyer) = (challenge.to_owned(), buyer.clone());
        let recipient = recipient.to_owned();
        Self::Pay {
            challenge,
            buyer,
            amount,
            recipient,
        }
    }

    /// Orders to say how a payment stands.
    #[must_use]
    pub fn void(challenge: &str, buyer: &Principal) -> Self {
        let (challenge, buyer) = (challenge.to_owned(), buyer.clone());
        Self::Void { challenge, buyer }
    }

    /// Orders to give back.
    #[must_use]
    pub fn refund(
        challenge: &str,
        buyer: &Principal,
        refund: IdempotencyKey,
        amount: Amount,
    ) -> Self {
        let (challenge, buyer) = (challenge.to_owned(), buyer.clone());
        Self::Refund {
            challenge,
            buyer,
            refund,
            amount,
        }
    }

    /// Orders to put more into a deposit.
    #[must_use]
    pub fn top_up(challenge: &str, buyer: &Principal, part: u32, amount: Amount) -> Self {
        let (challenge, buyer) = (challenge.to_owned(), buyer.clone());
        Self::TopUp {
            challenge,
            buyer,
            part,
            amount,
        }
    }

    /// Signs it, as the payload of a credential.
    ///
    /// # Errors
    /// As [`signed::sign`].
    pub fn payload(&self, key: &dyn SignKey) -> Result<Value> {
        Ok(json!({ "statement": signed::sign(KIND, self, key)? }))
    }

    /// Reads the statement of a payload and checks who signed it, and that it is about a challenge.
    ///
    /// # Errors
    /// As [`signed::verify`]; `Denied` for another signer or another challenge.
    pub fn verify(payload: &Value, challenge: &str, keys: &dyn VerifyKey) -> Result<Self> {
        let token = payload.get("statement").and_then(Value::as_str);
        let token = token.ok_or_else(|| Error::invalid("payment credential", "no statement"))?;
        let order = signed::verify::<Self>(KIND, token, keys)?;
        let (about, buyer) = order.statement.subject();
        if about != challenge || order.key_id != buyer.as_str() {
            let key_id = order.key_id;
            return Err(Error::BadSignature { key_id });
        }
        Ok(order.statement)
    }

    /// Returns the challenge it is about and who orders.
    fn subject(&self) -> (&str, &Principal) {
        match self {
            Self::Pay {
                challenge, buyer, ..
            }
            | Self::TopUp {
                challenge, buyer, ..
            }
            | Self::Void {
                challenge, buyer, ..
            }
            | Self::Refund {
                challenge, buyer, ..
            } => (challenge, buyer),
        }
    }
}
