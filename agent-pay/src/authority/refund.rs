//! Money that goes back.

use agent_core::{Amount, IdempotencyKey};

use super::SpendHold;

/// Part of a captured spend that goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refund {
    /// Its own key.
    pub key: IdempotencyKey,
    /// The spend as it stands.
    pub spend: SpendHold,
    /// How much; once it is settled, what really went back.
    pub amount: Amount,
    /// What became of it.
    pub state: RefundState,
}

impl Refund {
    /// Creates a refund, for backends.
    #[must_use]
    pub const fn new(
        key: IdempotencyKey,
        spend: SpendHold,
        amount: Amount,
        state: RefundState,
    ) -> Self {
        Self {
            key,
            spend,
            amount,
            state,
        }
    }
}

/// What became of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefundState {
    /// It is set aside and no rail has seen it.
    New,
    /// It is set aside, and a rail may have moved the money.
    Submitted,
    /// The money went back.
    Settled,
    /// The money did not go back and never will under this key.
    Failed,
}

impl RefundState {
    /// Returns the number the state is stored as. What is new is submitted as soon as it is stored.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::New | Self::Submitted => 0,
            Self::Settled => 1,
            Self::Failed => 2,
        }
    }

    /// Reads the number the state is stored as.
    ///
    /// # Errors
    /// `Corrupt` for an unknown number.
    pub fn from_code(code: u8) -> crate::Result<Self> {
        match code {
            0 => Ok(Self::Submitted),
            1 => Ok(Self::Settled),
            2 => Ok(Self::Failed),
            _ => Err(crate::Error::corrupt(format!(
                "refund state {code} is unknown"
            ))),
        }
    }
}
