//! Payment mandates: what a user allows an agent beforehand, and what the agent then pays.

use agent_core::{Amount, Asset, Digest, IdempotencyKey, Principal, Timestamp};

use super::chain::Chain;
use super::checkout::Checkout;
use super::constraint::{Constraint, Violation, first_moment};
use super::json::Json;
use super::malformed;
use super::money::Assets;
use super::party::{Instrument, Merchant, Pisp};
use super::read::Claims;
use crate::authority::{Intent, Origin, Payee, PriceBasis};
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

/// One payment that was decided: a closed payment mandate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Payment {
    /// The checkout it is for: the digest of what the merchant signed.
    pub transaction: String,
    /// Who is paid.
    pub payee: Merchant,
    /// Over whom.
    pub pisp: Option<Pisp>,
    /// How much.
    pub amount: Amount,
    /// With what.
    pub instrument: Instrument,
    /// When; at once if absent.
    pub execution: Option<Timestamp>,
}

/// What is allowed beforehand: an open payment mandate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenPayment {
    /// What a payment must satisfy.
    pub constraints: Vec<Constraint>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    pub(super) payee: Option<Merchant>,
    pisp: Option<Pisp>,
    pub(super) amount: Option<Amount>,
    instrument: Option<Instrument>,
    execution: Option<Timestamp>,
}

/// The open mandates of a verified chain, from the user's on, and the payment at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PaymentMandate {
    /// What is allowed; every later one narrows.
    pub open: Vec<OpenPayment>,
    /// What was decided.
    pub closed: Option<Payment>,
    pub(super) root: String,
    pub(super) identities: Vec<String>,
}

/// What a payment is checked against.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Facts<'a> {
    now: Timestamp,
    checkout: Option<&'a Checkout>,
    open_checkout: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// Checks at a moment.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self {
            now,
            checkout: None,
            open_checkout: None,
        }
    }

    /// Adds what the merchant signed, whose digest, payee and total the payment must have. Default:
    /// nothing, and nobody vouches for the price.
    #[must_use]
    pub const fn with_checkout(mut self, checkout: &'a Checkout) -> Self {
        self.checkout = Some(checkout);
        self
    }

    /// Adds the digest of the open checkout mandate ([`Chain::first_digest`]). Default: none, which
    /// satisfies no reference to one.
    #[must_use]
    pub const fn with_open_checkout(mut self, digest: &'a str) -> Self {
        self.open_checkout = Some(digest);
        self
    }
}

impl PaymentMandate {
    /// Reads the mandates of a chain, in the assets a ledger keeps.
    ///
    /// # Errors
    /// `Invalid` for mandates of another kind or version, a constraint nobody knows or that is
    /// hidden, an open mandate without a reference to a checkout, one that recurs without a range and
    /// a budget, and amounts that are ambiguous.
    pub fn read(chain: &Chain, assets: &[Asset]) -> Result<Self> {
        let assets = Assets(assets);
        let (mut open, mut closed) = (Vec::new(), None);
        for mandate in &chain.mandates {
            if closed.is_some() {
                return Err(malformed("a mandate behind a closed one"));
            }
            match mandate.get("vct").and_then(Json::as_text) {
                Some("mandate.payment.open.1") => open.push(OpenPayment::read(mandate, assets)?),
                Some("mandate.payment.1") => closed = Some(Payment::read(mandate, assets)?),
                _ => return Err(malformed("a mandate of another kind")),
            }
        }
        Ok(Self {
            open,
            closed,
            root: chain.root.clone(),
            identities: chain.identities.clone(),
        })
    }

    /// Checks the payment against every open mandate and the facts. Budgets over several payments,
    /// and how often one may recur, are checked by the spend authority: see [`Self::policies`].
    ///
    /// # Errors
    /// Every violation, each once, in a fixed order.
    pub fn check(&self, facts: &Facts<'_>) -> Result<&Payment, Vec<Violation>> {
        let Some(payment) = &self.closed else {
            return Err(vec![Violation::NotClosed]);
        };
        let at = payment.execution.unwrap_or(facts.now);
        let mut violations = Vec::new();
        for open in &self.open {
            if !open.is_preset_by(payment) {
                violations.push(Violation::Preset);
            }
            let found = open.constraints.iter();
            violations.extend(
                found.filter_map(|c| c.violation(payment, facts.open_checkout, (at, facts.now))),
            );
        }
        if let Some(checkout) = facts.checkout {
            if checkout.digest != payment.transaction {
                violations.push(Violation::Transaction);
            }
            let is_so = checkout.merchant == payment.payee
                && checkout.total_is(payment.amount).unwrap_or(false);
            if !is_so {
                violations.push(Violation::Checkout);
            }
        }
        violations.sort_unstable();
        violations.dedup();
        if violations.is_empty() {
            Ok(payment)
        } else {
            Err(violations)
        }
    }

    /// Makes the intent of the payment, if it satisfies everything. Its key is that of the
    /// transaction under the user's mandate: signing another mandate for the same transaction pays
    /// nothing twice.
    ///
    /// # Errors
    /// `Denied` with the violations.
    pub fn intent(
        &self,
        facts: &Facts<'_>,
        node: BudgetPath,
        actor: Principal,
        expires_at: Timestamp,
    ) -> Result<Intent> {
        let payment = self.check(facts).map_err(|violations| Error::SpendDenied {
            code: "mandate",
            detail: format!("{violations:?}"),
        })?;
        let (origin, basis) = match facts.checkout {
            Some(_) => (Origin::SignedOffer, PriceBasis::SignedOffer),
            None => (Origin::Model, PriceBasis::Unknown),
        };
        let digest = Digest::of_json(&(&self.root, self.identities.first(), &payment.transaction))?;
        let key = IdempotencyKey::new(format!("ap2_{digest}"))?;
        let payee = Payee::new(&payment.payee.id, origin);
        let intent = Intent::new(key, node, actor, payment.amount, payee, expires_at);
        Ok(intent
            .with_basis(basis)
            .with_rail("ap2")
            .with_resource(&payment.transaction, &payment.payee.name))
    }
}

impl Payment {
    fn read(mandate: &Json, assets: Assets<'_>) -> Result<Self> {
        let claims = Claims::of(mandate)?;
        let part = |name: &str| {
            let value = claims
                .get(name)
                .ok_or_else(|| malformed("a claim is missing"))?;
            Claims::of(value)
        };
        Ok(Self {
            transaction: claims.text("transaction_id")?.to_owned(),
            payee: Merchant::read(part("payee")?)?,
            pisp: maybe(claims, "pisp", Pisp::read)?,
            amount: amount(part("payment_amount")?, assets)?,
            instrument: Instrument::read(part("payment_instrument")?)?,
            execution: claims
                .maybe_text("execution_date")?
                .map(first_moment)
                .transpose()?,
        })
    }
}

impl OpenPayment {
    fn read(mandate: &Json, assets: Assets<'_>) -> Result<Self> {
        let claims = Claims::of(mandate)?;
        if claims.get("cnf").is_none() {
            return Err(malformed("an open mandate that confirms no key"));
        }
        let constraints = claims.list("constraints")?.iter();
        let constraints: Result<Vec<Constraint>> =
            constraints.map(|c| Constraint::read(c, assets)).collect();
        let expires_at = claims.maybe_integer("exp")?;
        let open = Self {
            constraints: constraints?,
            expires_at: expires_at.map(|s| Timestamp::from_unix_ms(s.saturating_mul(1_000))),
            payee: maybe(claims, "payee", Merchant::read)?,
            pisp: maybe(claims, "pisp", Pisp::read)?,
            amount: maybe(claims, "payment_amount", |claims| amount(claims, assets))?,
            instrument: maybe(claims, "payment_instrument", Instrument::read)?,
            execution: claims
                .maybe_text("execution_date")?
                .map(first_moment)
                .transpose()?,
        };
        let has = |wanted: fn(&Constraint) -> bool| open.constraints.iter().any(wanted);
        if !has(|c| matches!(c, Constraint::Reference(_))) {
            return Err(malformed("an open mandate for any checkout"));
        }
        let is_bounded = has(|c| matches!(c, Constraint::AmountRange { .. }))
            && has(|c| matches!(c, Constraint::Budget(_)));
        if has(|c| matches!(c, Constraint::Recurrence { .. })) && !is_bounded {
            return Err(malformed(
                "a mandate that recurs without a range and a budget",
            ));
        }
        Ok(open)
    }

    /// Returns whether a payment is what the user set beforehand.
    fn is_preset_by(&self, payment: &Payment) -> bool {
        self.payee.as_ref().is_none_or(|p| *p == payment.payee)
            && self
                .pisp
                .as_ref()
                .is_none_or(|p| Some(p) == payment.pisp.as_ref())
            && self.amount.is_none_or(|a| a == payment.amount)
            && self
                .instrument
                .as_ref()
                .is_none_or(|i| *i == payment.instrument)
            && self
                .execution
                .is_none_or(|at| Some(at) == payment.execution)
    }
}

fn maybe<'a, T>(
    claims: Claims<'a>,
    name: &str,
    read: impl Fn(Claims<'a>) -> Result<T>,
) -> Result<Option<T>> {
    match claims.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => read(Claims::of(value)?).map(Some),
    }
}

fn amount(claims: Claims<'_>, assets: Assets<'_>) -> Result<Amount> {
    assets.minor(claims.integer("amount")?, claims.text("currency")?)
}
