//! The bytes digests are taken of.

use agent_core::{Amount, Asset, Digest};

use crate::account::AccountName;
use crate::error::{Error, Result};

/// The bytes a digest is taken of: every field has a fixed width or its length before it, so that
/// no two bodies give the same bytes.
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn new(domain: &str) -> Self {
        let mut body = Self(Vec::with_capacity(512));
        body.text(domain);
        body
    }

    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(crate) fn count(&mut self, count: u64) -> &mut Self {
        self.bytes(&count.to_le_bytes())
    }

    pub(crate) fn optional(&mut self, number: Option<i64>) -> &mut Self {
        match number {
            None => self.byte(0),
            Some(number) => self.byte(1).number(number),
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        // A length beyond 64 bits does not exist.
        self.count(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.bytes(text.as_bytes())
    }

    pub(crate) fn asset(&mut self, asset: Asset) -> &mut Self {
        self.text(asset.code()).byte(asset.scale())
    }

    pub(super) fn movement(
        &mut self,
        kind: u8,
        debit: &AccountName,
        credit: &AccountName,
        amount: Amount,
    ) -> Result<()> {
        if debit == credit {
            return Err(Error::invalid("entry", "an account on both sides"));
        }
        if amount.is_negative() {
            return Err(Error::invalid("entry", "a negative amount"));
        }
        self.byte(kind)
            .text(debit.as_str())
            .text(credit.as_str())
            .asset(amount.asset())
            .number(amount.units_i64()?);
        Ok(())
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of_bytes(&self.0)
    }
}
