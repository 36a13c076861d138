//! What is to be spent, before it is.

use agent_core::{Amount, Digest, IdempotencyKey, Principal, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::account::AccountName;
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// Where the name of a payee came from. Text of a tool or a model can be an attacker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// The host's own list.
    Catalogue,
    /// An offer whose signature was verified.
    SignedOffer,
    /// The output of a tool.
    ToolOutput,
    /// A model's words.
    Model,
}

impl Origin {
    /// Returns whether the name may be an attacker's.
    #[must_use]
    pub const fn is_tainted(self) -> bool {
        matches!(self, Self::ToolOutput | Self::Model)
    }
}

/// Who gets the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Payee {
    /// The name, as the rail knows it.
    pub name: String,
    /// Where the name came from.
    pub origin: Origin,
}

impl Payee {
    /// Names a payee.
    #[must_use]
    pub fn new(name: impl Into<String>, origin: Origin) -> Self {
        Self {
            name: name.into(),
            origin,
        }
    }
}

/// Where the amount came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PriceBasis {
    /// An offer whose signature was verified.
    SignedOffer,
    /// The host's price book.
    RateCard,
    /// Nobody vouches for it.
    Unknown,
}

/// Money that moves with the hold, from one account of the ledger to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Movement {
    /// Who pays: the node's purse.
    pub from: AccountName,
    /// Who is paid.
    pub to: AccountName,
}

impl Movement {
    /// Moves money between two accounts.
    #[must_use]
    pub const fn new(from: AccountName, to: AccountName) -> Self {
        Self { from, to }
    }
}

/// What an agent wants to spend. All of it is bound by an approval.
// The members are in the order of their names, as canonical JSON has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Intent {
    /// Who spends.
    pub actor: Principal,
    /// The most it may cost.
    pub amount_max: Amount,
    /// Where the amount came from.
    pub basis: PriceBasis,
    /// What kind of thing is bought.
    pub category: Option<String>,
    /// For whom the actor acts: the first is the origin, the last the direct delegator.
    pub delegation: Vec<Principal>,
    /// When the hold is released by itself.
    pub expires_at: Timestamp,
    /// The key of the operation; derive it with [`operation_key`].
    pub key: IdempotencyKey,
    /// Money of this ledger that moves with it.
    pub movement: Option<Movement>,
    /// The node that pays, and with it every node above.
    pub node: BudgetPath,
    /// Who is paid.
    pub payee: Payee,
    /// What for, in words. It is shown to people and decides nothing.
    pub purpose: String,
    /// How it is paid.
    pub rail: String,
    /// What is bought: a URL, a tool, a quote.
    pub resource: String,
}

impl Intent {
    /// The longest text of an intent in bytes: a URL fits.
    pub const TEXT_BYTES_MAX: usize = 2_048;
    /// The most delegators.
    pub const DELEGATION_MAX: usize = 32;
    /// The version of the digested form.
    const DIGEST_VERSION: u32 = 1;

    /// Describes a spend of at most `amount_max` to `payee` over the rail `internal`, whose price
    /// nobody vouches for.
    #[must_use]
    pub fn new(
        key: IdempotencyKey,
        node: BudgetPath,
        actor: Principal,
        amount_max: Amount,
        payee: Payee,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            actor,
            amount_max,
            basis: PriceBasis::Unknown,
            category: None,
            delegation: Vec::new(),
            expires_at,
            key,
            movement: None,
            node,
            payee,
            purpose: String::new(),
            rail: "internal".to_owned(),
            resource: String::new(),
        }
    }

    /// Sets where the amount came from. Default: unknown, so that somebody is asked.
    #[must_use]
    pub const fn with_basis(mut self, basis: PriceBasis) -> Self {
        self.basis = basis;
        self
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

    /// Sets the rail. Default: `internal`.
    #[must_use]
    pub fn with_rail(mut self, rail: impl Into<String>) -> Self {
        self.rail = rail.into();
        self
    }

    /// Sets what is bought and what for. Default: nothing said.
    #[must_use]
    pub fn with_resource(
        mut self,
        resource: impl Into<String>,
        purpose: impl Into<String>,
    ) -> Self {
        self.resource = resource.into();
        self.purpose = purpose.into();
        self
    }

    /// Sets the money that moves with the hold. Default: none, an outside rail moves it.
    #[must_use]
    pub fn with_movement(mut self, movement: Movement) -> Self {
        self.movement = Some(movement);
        self
    }

    /// Checks the form, which comes from agents and peers.
    ///
    /// # Errors
    /// `Invalid` for a negative amount or one beyond 64 bits, empty or overlong texts, a key kept
    /// for the ledger, or too many delegators.
    pub fn check(&self) -> Result<()> {
        let is_kept = self.key.as_str().starts_with("agent-pay.");
        if is_kept {
            return Err(Error::invalid(
                "key",
                "keys beginning `agent-pay.` are kept",
            ));
        }
        if self.amount_max.is_negative() {
            return Err(Error::invalid("intent", "a negative amount"));
        }
        self.amount_max.units_i64()?;
        let texts = [&self.payee.name, &self.rail, &self.resource, &self.purpose];
        let category = self.category.iter();
        if texts
            .into_iter()
            .chain(category)
            .any(|t| t.len() > Self::TEXT_BYTES_MAX)
        {
            return Err(Error::invalid("intent", "texts of at most 2048 bytes"));
        }
        if self.payee.name.is_empty() || self.rail.is_empty() {
            return Err(Error::invalid("intent", "a payee and a rail"));
        }
        if self.payee.name.chars().any(char::is_control) {
            return Err(Error::invalid(
                "intent",
                "a payee without control characters",
            ));
        }
        if self.delegation.len() > Self::DELEGATION_MAX {
            return Err(Error::invalid("intent", "at most 32 delegators"));
        }
        Ok(())
    }

    /// Digests the whole intent as canonical JSON (RFC 8785): amount, asset, payee, resource, rail,
    /// purpose, expiry, and who spends under which key. An approval holds for exactly this.
    ///
    /// # Errors
    /// `Invalid` for an expiry that canonical JSON cannot carry.
    pub fn digest(&self) -> Result<Digest> {
        Ok(Self::digest_of(&self.canonical()?))
    }

    /// Writes it as canonical JSON. Its members are declared in the order of their names and have no
    /// fractions, so that what is written first is canonical already.
    pub(crate) fn canonical(&self) -> Result<String> {
        const INTEGER_MAX: u64 = (1 << 53) - 1;
        /// What most are shorter than.
        const BYTES: usize = 768;
        if self.expires_at.as_unix_ms().unsigned_abs() > INTEGER_MAX {
            return Err(Error::invalid("intent", "an expiry within 2^53 ms"));
        }
        let mut text = Vec::with_capacity(BYTES);
        serde_json::to_writer(&mut text, self)
            .map_err(|e| Error::invalid("intent", e.to_string()))?;
        String::from_utf8(text).map_err(|e| Error::invalid("intent", e.to_string()))
    }

    /// Digests an intent that was written already.
    pub(crate) fn digest_of(canonical: &str) -> Digest {
        let (before, version) = ("{\"intent\":", Self::DIGEST_VERSION);
        let after = format!(",\"v\":{version}}}");
        Digest::of_bytes([before, canonical, &after].concat().as_bytes())
    }
}

/// Derives the key of an operation from the step it belongs to and what it does, so that every
/// attempt of the same step has the same key.
///
/// # Errors
/// `Invalid` if the arguments hold a number canonical JSON cannot carry.
pub fn operation_key(
    run: RunId,
    step: &str,
    tool: &str,
    arguments: &serde_json::Value,
) -> Result<IdempotencyKey> {
    let digest = Digest::of_json(&("agent-pay operation v1", run, step, tool, arguments))?;
    Ok(IdempotencyKey::new(format!("op_{digest}"))?)
}
