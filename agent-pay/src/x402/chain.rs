//! What a chain says of an authorization, the one witness both sides can believe.

mod rpc;

use std::fmt;

use async_trait::async_trait;

pub use rpc::{BlockTag, EvmRpc};

use super::authorization::Authorization;
use super::eip712::Domain;
use crate::error::Result;

/// How an authorization stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// It was carried out: the token moved to who is paid. Final.
    #[non_exhaustive]
    Executed {
        /// The transaction.
        transaction: String,
    },
    /// It was not and never will be: its time is over, or its nonce went elsewhere. Final.
    #[non_exhaustive]
    Never {
        /// Why, as a code.
        code: &'static str,
    },
    /// It was not and may be yet.
    NotYet,
}

impl Execution {
    /// It was carried out.
    #[must_use]
    pub fn executed(transaction: impl Into<String>) -> Self {
        Self::Executed {
            transaction: transaction.into(),
        }
    }

    /// It never will be.
    #[must_use]
    pub const fn never(code: &'static str) -> Self {
        Self::Never { code }
    }
}

/// Reads a chain.
///
/// This is the contract for _implementors_: a nonce that is used counts as carried out only if the
/// token moved from who pays to who is paid in the amount; and what is said to be final is, as far
/// as blocks of the chain can be.
#[async_trait]
pub trait Chain: fmt::Debug + Send + Sync + 'static {
    /// Looks an authorization up.
    ///
    /// # Errors
    /// What the implementation reports; nothing is known then.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn look_up(&self, domain: Domain, authorization: Authorization) -> Result<Execution>;
}
