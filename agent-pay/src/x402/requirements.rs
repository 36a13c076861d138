//! What a resource server asks for.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::atomic::Atomic;
use super::authorization::chain_id;
use super::bytes::Address;
use super::eip712::Domain;
use super::network::Network;
use crate::error::{Error, Result};

/// The scheme that moves an exact amount, the one this crate pays and takes.
pub const EXACT: &str = "exact";

/// One way to pay for a resource: `exact` on a chain of Ethereum's kind, by EIP-3009.
///
/// It keeps the JSON it was read from, so that a client echoes what it accepts whole, members it does
/// not know included. Two requirements are equal if what they mean is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Requirements {
    /// The network.
    pub network: Network,
    /// How much.
    pub amount: Atomic,
    /// The token.
    pub asset: Address,
    /// Who is paid.
    pub pay_to: Address,
    /// How long a payment may take in seconds.
    pub max_timeout_seconds: u64,
    /// The name of the token, as its signed data has it.
    pub name: String,
    /// The version of the token's signed data.
    pub version: String,
    raw: Value,
}

impl PartialEq for Requirements {
    fn eq(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Eq for Requirements {}

impl Requirements {
    /// The longest time a payment may take: an hour.
    pub const TIMEOUT_SECONDS_MAX: u64 = 3_600;
    /// The longest name and version of a token in bytes.
    pub const NAME_BYTES_MAX: usize = 128;

    /// Asks for an amount of a token, whose name and version are those of its signed data.
    ///
    /// # Errors
    /// `Invalid` if the domain's chain or names do not serve, or the time is not 1 s to
    /// [`Self::TIMEOUT_SECONDS_MAX`].
    pub fn new(domain: &Domain, pay_to: Address, amount: Atomic, seconds: u64) -> Result<Self> {
        Self::read(json!({
            "scheme": EXACT,
            "network": Network::evm(domain.chain_id),
            "amount": amount,
            "asset": domain.contract,
            "payTo": pay_to,
            "maxTimeoutSeconds": seconds,
            "extra": { "name": domain.name, "version": domain.version },
        }))
    }

    /// Reads what version 2 has in `accepts` and `accepted`.
    ///
    /// # Errors
    /// `Invalid` for another scheme or kind of network, another transfer method than EIP-3009, and for
    /// another form.
    pub fn read(raw: Value) -> Result<Self> {
        let wire: WireV2 = Deserialize::deserialize(&raw).map_err(|e| malformed(&e))?;
        wire.read(raw)
    }

    /// Reads what version 1 has in `accepts`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_v1(raw: Value) -> Result<Self> {
        let wire: WireV1 = Deserialize::deserialize(&raw).map_err(|e| malformed(&e))?;
        let wire = WireV2 {
            scheme: wire.scheme,
            network: Network::from_v1(&wire.network)?,
            amount: wire.max_amount_required,
            asset: wire.asset,
            pay_to: wire.pay_to,
            max_timeout_seconds: wire.max_timeout_seconds,
            extra: wire.extra,
        };
        wire.read(raw)
    }

    /// Writes what version 1 has in `accepts`; none for a network it has no name for.
    #[must_use]
    pub fn to_v1(&self, resource: &ResourceInfo) -> Option<Value> {
        Some(json!({
            "scheme": EXACT,
            "network": self.network.v1_name()?,
            "maxAmountRequired": self.amount,
            "resource": resource.url,
            "description": resource.description.as_deref().unwrap_or_default(),
            "mimeType": resource.mime_type.as_deref().unwrap_or_default(),
            "outputSchema": null,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "asset": self.asset,
            "extra": { "name": self.name, "version": self.version },
        }))
    }

    /// Returns the domain its payments are signed under.
    ///
    /// # Errors
    /// None for requirements that exist.
    pub fn domain(&self) -> Result<Domain> {
        let chain_id = chain_id(&self.network)?;
        Ok(Domain::new(&self.name, &self.version, chain_id, self.asset))
    }

    /// Returns the JSON it was read from or made as.
    #[must_use]
    pub const fn raw(&self) -> &Value {
        &self.raw
    }

    fn meaning(&self) -> (&Network, Atomic, [Address; 2], u64, [&str; 2]) {
        let names = [self.name.as_str(), self.version.as_str()];
        let parties = [self.asset, self.pay_to];
        (
            &self.network,
            self.amount,
            parties,
            self.max_timeout_seconds,
            names,
        )
    }
}

impl Serialize for Requirements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Requirements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::invalid("payment requirements", error.to_string())
}

/// The members version 2 defines; others are allowed and mean nothing here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireV2 {
    scheme: String,
    network: Network,
    amount: Atomic,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    #[serde(default)]
    extra: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireV1 {
    scheme: String,
    network: String,
    max_amount_required: Atomic,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    #[serde(default)]
    extra: Option<Map<String, Value>>,
}

impl WireV2 {
    fn read(self, raw: Value) -> Result<Requirements> {
        let wrong = |reason: &'static str| Error::invalid("payment requirements", reason);
        if self.scheme != EXACT {
            return Err(wrong("another scheme than `exact`"));
        }
        chain_id(&self.network)?;
        if self.max_timeout_seconds == 0
            || self.max_timeout_seconds > Requirements::TIMEOUT_SECONDS_MAX
        {
            return Err(wrong("a time of 1 to 3600 seconds"));
        }
        let extra = self.extra.unwrap_or_default();
        let text = |name: &str| extra.get(name).and_then(Value::as_str);
        if text("assetTransferMethod").unwrap_or("eip3009") != "eip3009" {
            return Err(wrong("another transfer method than `eip3009`"));
        }
        let named = |name: &str| {
            let found = text(name)
                .filter(|text| !text.is_empty() && text.len() <= Requirements::NAME_BYTES_MAX);
            let missing = "the token's name and version, of at most 128 bytes, in `extra`";
            found.map(str::to_owned).ok_or_else(|| wrong(missing))
        };
        Ok(Requirements {
            network: self.network,
            amount: self.amount,
            asset: self.asset,
            pay_to: self.pay_to,
            max_timeout_seconds: self.max_timeout_seconds,
            name: named("name")?,
            version: named("version")?,
            raw,
        })
    }
}

/// What is sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ResourceInfo {
    /// Its URL.
    pub url: String,
    /// What it is, in words, which decide nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The media type of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
}

impl ResourceInfo {
    /// Names a resource.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            description: None,
            mime_type: None,
        }
    }
}
