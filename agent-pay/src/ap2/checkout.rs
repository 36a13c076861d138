//! Checkout mandates: what may be bought, and what the merchant signed.

use std::collections::BTreeMap;

use agent_core::{Amount, Asset};

use super::chain::Chain;
use super::constraint::Violation;
use super::json::Json;
use super::key::PublicKey;
use super::malformed;
use super::money::Assets;
use super::party::Merchant;
use super::read::Claims;
use super::sd_jwt::{hash, open_jwt, verify_jwt};
use crate::error::Result;

/// The most of one thing, and of all, that is bought at once.
const QUANTITY_MAX: u64 = 100_000;
/// The most requirements of one mandate.
const REQUIREMENTS_MAX: usize = 64;

/// A checkout as its merchant signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkout {
    /// The digest of what was signed: the transaction of its payment.
    pub digest: String,
    /// Who sells.
    pub merchant: Merchant,
    /// How many of which items, by their identifiers.
    pub items: BTreeMap<String, u64>,
    /// What it costs in all.
    pub total: Amount,
}

impl Checkout {
    /// Verifies a checkout with the key of its merchant.
    ///
    /// # Errors
    /// `Denied` for a signature that does not verify; `Invalid` for a checkout without a merchant,
    /// items or one total, or with an ambiguous amount.
    pub fn verify(jwt: &str, key: &PublicKey, assets: &[Asset]) -> Result<Self> {
        let (header, payload) = open_jwt(jwt)?;
        verify_jwt(jwt, &header, key, "a merchant")?;
        let claims = Claims::of(&payload)?;
        let merchant = claims.get("merchant");
        let merchant = merchant.ok_or_else(|| malformed("a checkout of nobody"))?;
        let currency = claims.text("currency")?;
        let mut totals = Vec::new();
        for total in claims.list("totals")? {
            let total = Claims::of(total)?;
            if total.text("type")? == "total" {
                totals.push(total.integer("amount")?);
            }
        }
        let [total] = totals.as_slice() else {
            return Err(malformed("a checkout without one total"));
        };
        Ok(Self {
            digest: hash(jwt),
            merchant: Merchant::read(Claims::of(merchant)?)?,
            items: items(claims)?,
            total: Assets(assets).minor(*total, currency)?,
        })
    }

    pub(super) fn total_is(&self, amount: Amount) -> Result<bool> {
        Ok(self.total.compare(&amount)?.is_eq())
    }
}

fn items(claims: Claims<'_>) -> Result<BTreeMap<String, u64>> {
    let mut items = BTreeMap::new();
    for line in claims.list("line_items")? {
        let line = Claims::of(line)?;
        let item = line
            .get("item")
            .ok_or_else(|| malformed("a line of nothing"))?;
        let id = Claims::of(item)?.text("id")?.to_owned();
        let quantity = quantity(line.integer("quantity")?)?;
        let sum: &mut u64 = items.entry(id).or_insert(0);
        *sum = sum.saturating_add(quantity);
        if *sum > QUANTITY_MAX {
            return Err(malformed("a quantity"));
        }
    }
    Ok(items)
}

fn quantity(n: i64) -> Result<u64> {
    let quantity = u64::try_from(n).ok();
    let quantity = quantity.filter(|n| (1..=QUANTITY_MAX).contains(n));
    quantity.ok_or_else(|| malformed("a quantity"))
}

/// What may be bought: an open checkout mandate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenCheckout {
    /// From whom; from anybody if absent.
    pub merchants: Option<Vec<Merchant>>,
    /// What must be in it: for each requirement so many of any of these items, and nothing else.
    pub requirements: Vec<(Vec<String>, u64)>,
}

/// The open mandates of a verified chain, and the digest of the checkout at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckoutMandate {
    /// What is allowed; every later one narrows.
    pub open: Vec<OpenCheckout>,
    /// The checkout that was decided on, by its digest.
    pub closed: Option<String>,
    /// What the merchant signed, if the chain discloses it.
    pub checkout_jwt: Option<String>,
}

impl CheckoutMandate {
    /// Reads the mandates of a chain.
    ///
    /// # Errors
    /// `Invalid` for mandates of another kind or version, a constraint nobody knows or that is
    /// hidden, no requirements or too many, and a checkout that is not that of its digest.
    pub fn read(chain: &Chain) -> Result<Self> {
        let mut mandate = Self {
            open: Vec::new(),
            closed: None,
            checkout_jwt: None,
        };
        for value in &chain.mandates {
            if mandate.closed.is_some() {
                return Err(malformed("a mandate behind a closed one"));
            }
            match value.get("vct").and_then(Json::as_text) {
                Some("mandate.checkout.open.1") => mandate.open.push(OpenCheckout::read(value)?),
                Some("mandate.checkout.1") => {
                    // What was signed may be hidden from who need not see it.
                    let claims = Claims::perhaps_hidden(value)?;
                    let digest = claims.text("checkout_hash")?;
                    let jwt = claims.maybe_text("checkout_jwt")?;
                    if jwt.is_some_and(|jwt| hash(jwt) != digest) {
                        return Err(malformed("a checkout of another digest"));
                    }
                    mandate.closed = Some(digest.to_owned());
                    mandate.checkout_jwt = jwt.map(str::to_owned);
                }
                _ => return Err(malformed("a mandate of another kind")),
            }
        }
        Ok(mandate)
    }

    /// Checks a checkout against every open mandate, and that it is the one that was decided on.
    ///
    /// # Errors
    /// Every violation, each once, in a fixed order.
    pub fn check(&self, checkout: &Checkout) -> Result<(), Vec<Violation>> {
        let mut violations = Vec::new();
        match &self.closed {
            None => violations.push(Violation::NotClosed),
            Some(digest) if *digest != checkout.digest => violations.push(Violation::Checkout),
            Some(_) => {}
        }
        for open in &self.open {
            let is_merchant = |merchant: &Merchant| merchant.id == checkout.merchant.id;
            let merchants = open.merchants.as_ref();
            if merchants.is_some_and(|allowed| !allowed.iter().any(is_merchant)) {
                violations.push(Violation::Merchant);
            }
            if !open.takes(&checkout.items) {
                violations.push(Violation::LineItems);
            }
        }
        violations.sort_unstable();
        violations.dedup();
        if violations.is_empty() {
            Ok(())
        } else {
            Err(violations)
        }
    }
}

impl OpenCheckout {
    fn read(mandate: &Json) -> Result<Self> {
        let claims = Claims::of(mandate)?;
        if claims.get("cnf").is_none() {
            return Err(malformed("an open mandate that confirms no key"));
        }
        let mut open = Self {
            merchants: None,
            requirements: Vec::new(),
        };
        for constraint in claims.list("constraints")? {
            let constraint = Claims::of(constraint)?;
            match constraint.text("type")? {
                "checkout.allowed_merchants" if open.merchants.is_none() => {
                    open.merchants = Some(constraint.allowed("allowed", Merchant::read)?);
                }
                "checkout.line_items" if open.requirements.is_empty() => {
                    for requirement in constraint.list("items")? {
                        let requirement = Claims::of(requirement)?;
                        let id = |item: Claims<'_>| Ok(item.text("id")?.to_owned());
                        let acceptable = requirement.allowed("acceptable_items", id)?;
                        let n = quantity(requirement.integer("quantity")?)?;
                        open.requirements.push((acceptable, n));
                    }
                }
                _ => return Err(malformed("a constraint nobody knows, or one twice")),
            }
        }
        if open.requirements.is_empty() || open.requirements.len() > REQUIREMENTS_MAX {
            return Err(malformed("1 to 64 requirements"));
        }
        Ok(open)
    }

    /// Returns whether items can be shared out so that every requirement has exactly its quantity
    /// and no item is left: a flow from items to requirements that fills both.
    fn takes(&self, items: &BTreeMap<String, u64>) -> bool {
        let wanted = self.requirements.iter().map(|(_, n)| n).sum::<u64>();
        if items.values().sum::<u64>() != wanted || items.len() > 1_000 {
            return false;
        }
        let ids: Vec<&String> = items.keys().collect();
        let mut left: Vec<u64> = items.values().copied().collect();
        // What each requirement has of each item.
        let mut given = vec![vec![0_u64; ids.len()]; self.requirements.len()];
        for (n, (_, quantity)) in self.requirements.iter().enumerate() {
            let mut missing = *quantity;
            while missing > 0 {
                match self.augment(&ids, &mut left, &mut given, n, missing) {
                    0 => return false,
                    more => missing = missing.saturating_sub(more),
                }
            }
        }
        true
    }

    /// Brings up to `most` more to a requirement, over a path of exchanges, and returns how many.
    fn augment(
        &self,
        ids: &[&String],
        left: &mut [u64],
        given: &mut [Vec<u64>],
        to: usize,
        most: u64,
    ) -> u64 {
        // Breadth first from the requirement back to an item that is left: which requirement asked
        // for each item, and which item each requirement would be made good with.
        let mut asked_by: Vec<Option<usize>> = vec![None; ids.len()];
        let mut made_good_by: Vec<Option<usize>> = vec![None; given.len()];
        let mut queue = std::collections::VecDeque::from([to]);
        let mut found = None;
        'search: while let Some(requirement) = queue.pop_front() {
            let accepts = self.requirements.get(requirement);
            for (item, id) in ids.iter().enumerate() {
                let is_accepted = accepts.is_some_and(|(ids, _)| ids.contains(id));
                let Some(slot) = asked_by.get_mut(item) else {
                    continue;
                };
                if !is_accepted || slot.is_some() {
                    continue;
                }
                *slot = Some(requirement);
                if left.get(item).is_some_and(|n| *n > 0) {
                    found = Some(item);
                    break 'search;
                }
                for (holder, has) in given.iter().enumerate() {
                    let holds = has.get(item).is_some_and(|n| *n > 0);
                    if let Some(slot) = made_good_by.get_mut(holder)
                        && holds
                        && holder != to
                        && slot.is_none()
                    {
                        *slot = Some(item);
                        queue.push_back(holder);
                    }
                }
            }
        }
        let Some(source) = found else { return 0 };
        // The path, from the item that is left to the requirement.
        let mut path = vec![source];
        let mut steps = Vec::new();
        let mut amount = most.min(left.get(source).copied().unwrap_or(0));
        while let Some(item) = path.last().copied() {
            let Some(Some(requirement)) = asked_by.get(item).copied() else {
                return 0;
            };
            let gives = made_good_by.get(requirement).copied().flatten();
            steps.push((item, requirement, gives));
            let Some(gives) = gives.filter(|_item| requirement != to) else {
                break;
            };
            let has = given
                .get(requirement)
                .and_then(|has| has.get(gives))
                .copied();
            amount = amount.min(has.unwrap_or(0));
            path.push(gives);
        }
        if let Some(n) = left.get_mut(source) {
            *n = n.saturating_sub(amount);
        }
        for (item, requirement, gives) in steps {
            if let Some(has) = given.get_mut(requirement) {
                if let Some(n) = has.get_mut(item) {
                    *n = n.saturating_add(amount);
                }
                if requirement != to
                    && let Some(n) = gives.and_then(|gives| has.get_mut(gives))
                {
                    *n = n.saturating_sub(amount);
                }
            }
        }
        amount
    }
}
