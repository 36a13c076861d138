//! Which way to pay is taken, and how far its terms are to be believed.

use agent_core::Amount;

use super::{Buyer, Merchant, Token};
use crate::authority::{Origin, PriceBasis};
use crate::error::{Error, Result};
use crate::x402::atomic::Atomic;
use crate::x402::message::{PaymentRequired, Version};
use crate::x402::offer::is_signed;
use crate::x402::requirements::{Requirements, ResourceInfo};

/// A way to pay that the house allows.
pub(super) struct Chosen {
    pub(super) version: Version,
    pub(super) asked: Requirements,
    pub(super) resource: Option<ResourceInfo>,
    pub(super) extensions: serde_json::Map<String, serde_json::Value>,
    pub(super) amount: Amount,
    pub(super) origin: Origin,
    pub(super) basis: PriceBasis,
}

impl Token {
    /// Converts atoms of the token exactly; none if they are no whole number of smallest units.
    fn amount(&self, atoms: Atomic) -> Option<Amount> {
        let (decimals, scale) = (u32::from(self.decimals), u32::from(self.asset().scale()));
        let atoms = i128::try_from(atoms.units()).ok()?;
        let units = match decimals.checked_sub(scale) {
            Some(more) => {
                let factor = 10_i128.checked_pow(more)?;
                (atoms.checked_rem(factor)? == 0)
                    .then(|| atoms.checked_div(factor))
                    .flatten()?
            }
            None => atoms.checked_mul(10_i128.checked_pow(scale.checked_sub(decimals)?)?)?,
        };
        Some(Amount::from_units(units, self.asset()))
    }

    fn takes(&self, asked: &Requirements) -> bool {
        asked.domain().is_ok_and(|domain| domain == self.domain)
    }
}

impl Merchant {
    /// Returns whether a URL is of this seller: of the same host and below the same path.
    fn sells(&self, url: &str) -> bool {
        let rest = url.strip_prefix(&self.url);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }
}

impl Buyer {
    /// Chooses the first way to pay whose token is listed and whose amount is within its cap.
    pub(super) fn choose(&self, required: PaymentRequired, url: &str) -> Result<Chosen> {
        let now = self.now();
        let allowed = required.accepts.iter().find_map(|asked| {
            let token = self
                .inner
                .config
                .tokens
                .iter()
                .find(|token| token.takes(asked))?;
            let amount = token.amount(asked.amount)?;
            let fits = amount
                .compare(&token.payment_max)
                .is_ok_and(|order| order.is_le());
            fits.then(|| (asked.clone(), amount))
        });
        let Some((asked, amount)) = allowed else {
            return Err(Error::SpendDenied {
                code: "no_acceptable_offer",
                detail: "no way to pay has a listed token within its cap".to_owned(),
            });
        };
        let merchant = self.inner.config.merchants.iter().find(|m| m.sells(url));
        let known = merchant.filter(|m| m.pay_to == asked.pay_to);
        let is_cheap = known.is_some_and(|m| {
            amount
                .compare(&m.price_max)
                .is_ok_and(|order| order.is_le())
        });
        let is_signed = is_signed(&required.extensions, url, &asked, now);
        let origin = match (known, is_signed) {
            (Some(_), _) => Origin::Catalogue,
            // A known seller that is paid elsewhere is not believed, whoever signs.
            (None, true) if merchant.is_none() => Origin::SignedOffer,
            (None, _) => Origin::ToolOutput,
        };
        let basis = match (is_cheap, is_signed) {
            (true, _) => PriceBasis::RateCard,
            // What a known seller asks beyond its price is asked about.
            (false, true) if merchant.is_none() => PriceBasis::SignedOffer,
            (false, _) => PriceBasis::Unknown,
        };
        Ok(Chosen {
            version: required.version,
            asked,
            resource: required.resource,
            extensions: required.extensions,
            amount,
            origin,
            basis,
        })
    }

    pub(super) fn now(&self) -> u64 {
        self.inner.env.clock.now().as_unix_ms_u64() / 1_000
    }
}
