//! How much to whom: the `request` of a challenge, for the method `ledger`.

use agent_core::{Amount, Asset};
use serde::{Deserialize, Serialize};

use super::encoding;
use crate::error::{Error, Result};

/// What a payment of the method `ledger` is about. On the wire it has the shared fields of the
/// intents `charge` and `session`; the number of decimals, without which an amount in base units
/// says nothing, is a detail of the method and required.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PaymentRequest {
    /// What a charge costs, or a unit of a session.
    pub amount: Amount,
    /// Who is paid: an account of the seller's ledger.
    pub recipient: String,
    /// What a unit of a session is. Absent for a charge.
    pub unit: Option<String>,
    /// What a session should begin with. Absent for a charge.
    pub deposit: Option<Amount>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    amount: String,
    currency: String,
    recipient: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suggested_deposit: Option<String>,
    method_details: Details,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    decimals: u8,
}

impl PaymentRequest {
    /// Asks for an amount.
    #[must_use]
    pub fn charge(amount: Amount, recipient: impl Into<String>) -> Self {
        Self {
            amount,
            recipient: recipient.into(),
            unit: None,
            deposit: None,
        }
    }

    /// Asks for `amount` a `unit`, on a deposit of the given size.
    #[must_use]
    pub fn session(
        amount: Amount,
        unit: impl Into<String>,
        deposit: Amount,
        recipient: impl Into<String>,
    ) -> Self {
        Self {
            amount,
            recipient: recipient.into(),
            unit: Some(unit.into()),
            deposit: Some(deposit),
        }
    }

    /// Writes it as the parameter of a challenge.
    ///
    /// # Errors
    /// `Invalid` for a negative amount or a deposit of another asset.
    pub fn encode(&self) -> Result<String> {
        let asset = self.amount.asset();
        let deposit = match self.deposit {
            Some(deposit) if deposit.asset() != asset => {
                return Err(Error::invalid("payment request", "two assets"));
            }
            deposit => deposit.map(write_units).transpose()?,
        };
        encoding::encode_json(&Wire {
            amount: write_units(self.amount)?,
            currency: asset.code().to_ascii_lowercase(),
            recipient: self.recipient.clone(),
            unit_type: self.unit.clone(),
            suggested_deposit: deposit,
            method_details: Details {
                decimals: asset.scale(),
            },
        })
    }

    /// Reads the parameter of a challenge. Fields it does not know are passed over.
    ///
    /// # Errors
    /// `Invalid` for what is not such a request: no decimals, amounts that are not whole numbers,
    /// a currency that is no asset.
    pub fn decode(request: &str) -> Result<Self> {
        let wire: Wire = encoding::decode_json("payment request", request)?;
        let code = wire.currency.to_ascii_uppercase();
        let asset = Asset::new(&code, wire.method_details.decimals)?;
        Ok(Self {
            amount: read_units(&wire.amount, asset)?,
            recipient: wire.recipient,
            unit: wire.unit_type,
            deposit: wire
                .suggested_deposit
                .map(|units| read_units(&units, asset))
                .transpose()?,
        })
    }
}

/// Writes an amount in base units.
pub(super) fn write_units(amount: Amount) -> Result<String> {
    if amount.is_negative() {
        return Err(Error::invalid("payment request", "a negative amount"));
    }
    Ok(amount.units_i64()?.to_string())
}

/// Reads an amount in base units: digits, no sign, no leading zero.
pub(super) fn read_units(text: &str, asset: Asset) -> Result<Amount> {
    let is_plain = text == "0" || !text.starts_with('0');
    if text.is_empty() || text.len() > 19 || !is_plain || !text.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Error::invalid("amount in base units", "not a whole number"));
    }
    let units: i64 = text
        .parse()
        .map_err(|_range| Error::invalid("amount in base units", "beyond 64 bits"))?;
    Ok(Amount::from_units(units.into(), asset))
}
