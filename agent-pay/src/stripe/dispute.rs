//! Payments that a bank disputes in the name of whoever owns the card.

use serde::Deserialize;

/// A dispute as an event tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Dispute {
    /// Its name.
    pub id: String,
    /// How much of the payment is disputed, in the currency's units.
    pub amount: i64,
    /// The currency in lower case.
    pub currency: String,
    /// The payment it is of.
    #[serde(default)]
    pub payment_intent: Option<String>,
    /// How it stands.
    pub status: DisputeStatus,
}

/// How a dispute stands, by the names of Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DisputeStatus {
    /// The bank asks, before anything moves; somebody is to answer.
    WarningNeedsResponse,
    /// The bank reads what was answered to its question.
    WarningUnderReview,
    /// The question came to nothing.
    WarningClosed,
    /// The money is withheld; somebody is to answer.
    NeedsResponse,
    /// The bank reads what was answered.
    UnderReview,
    /// The money stays with who was paid.
    Won,
    /// The money went back to who paid.
    Lost,
    /// A status this version does not know.
    #[serde(other)]
    Other,
}
