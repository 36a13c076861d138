//! Who is paid, with what, and over whom.

use super::read::Claims;
use crate::error::Result;

/// A merchant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merchant {
    /// The identifier, which alone decides whether two are the same.
    pub id: String,
    /// The name, for people.
    pub name: String,
}

impl Merchant {
    pub(super) fn read(claims: Claims<'_>) -> Result<Self> {
        Ok(Self {
            id: claims.text("id")?.to_owned(),
            name: claims.text("name")?.to_owned(),
        })
    }
}

/// What it is paid with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instrument {
    /// The identifier.
    pub id: String,
    /// What kind it is, such as `card`.
    pub kind: String,
}

impl Instrument {
    pub(super) fn read(claims: Claims<'_>) -> Result<Self> {
        Ok(Self {
            id: claims.text("id")?.to_owned(),
            kind: claims.text("type")?.to_owned(),
        })
    }
}

/// A payment initiation service provider.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pisp {
    /// The legal name.
    pub legal_name: String,
    /// The brand.
    pub brand_name: String,
    /// The domain of its certificate.
    pub domain_name: String,
}

impl Pisp {
    pub(super) fn read(claims: Claims<'_>) -> Result<Self> {
        Ok(Self {
            legal_name: claims.text("legal_name")?.to_owned(),
            brand_name: claims.text("brand_name")?.to_owned(),
            domain_name: claims.text("domain_name")?.to_owned(),
        })
    }
}
