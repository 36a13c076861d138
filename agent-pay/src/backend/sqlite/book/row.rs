//! Rows of the ledger as they are stored.

use agent_core::store::sql;
use agent_core::{Asset, Digest, IdempotencyKey, Timestamp};
use rusqlite::Row;

use crate::account::{Account, AccountName, Balances, Guard};
use crate::batch::TransferKind;
use crate::error::{Error, Result};
use crate::journal::{BatchRow, Head, Origin, TransferRow};

/// The stored text of an asset, without an allocation for the default scale.
pub(in super::super) struct AssetText(Asset, Option<String>);

impl AssetText {
    pub(in super::super) fn of(asset: Asset) -> Self {
        let is_plain = asset.scale() == Asset::SCALE_DEFAULT;
        Self(asset, (!is_plain).then(|| asset.to_string()))
    }

    pub(in super::super) fn as_str(&self) -> &str {
        self.1.as_deref().unwrap_or_else(|| self.0.code())
    }
}

/// Converts a number of this crate to SQLite's.
pub(in super::super) fn stored(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_range| Error::invalid("number", "it does not fit in 63 bits"))
}

pub(super) fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, at: usize) -> Result<T> {
    Ok(row.get(at).map_err(sql("read a column"))?)
}

pub(in super::super) fn number(row: &Row<'_>, at: usize) -> Result<u64> {
    let number: i64 = column(row, at)?;
    u64::try_from(number).map_err(|_sign| Error::corrupt("a stored number is negative"))
}

fn optional_number(row: &Row<'_>, at: usize) -> Result<Option<u64>> {
    let number: Option<i64> = column(row, at)?;
    let number = number.map(u64::try_from).transpose();
    number.map_err(|_sign| Error::corrupt("a stored number is negative"))
}

fn text<'r>(row: &'r Row<'_>, at: usize) -> Result<&'r str> {
    let value = row.get_ref(at).map_err(sql("read a column"))?;
    value
        .as_str()
        .map_err(|e| Error::corrupt(format!("column {at}: {e}")))
}

pub(in super::super) fn asset(row: &Row<'_>, at: usize) -> Result<Asset> {
    text(row, at)?
        .parse()
        .map_err(|e| Error::corrupt(format!("a stored asset: {e}")))
}

fn code(row: &Row<'_>, at: usize) -> Result<u8> {
    column(row, at)
}

pub(super) fn head(row: &Row<'_>) -> Result<Head> {
    Ok(Head::new(
        number(row, 0)?,
        number(row, 1)?,
        number(row, 2)?,
        Timestamp::from_unix_ms(column(row, 3)?),
        Digest::from_bytes(column(row, 4)?),
    ))
}

pub(in super::super) fn batch(row: &Row<'_>) -> Result<BatchRow> {
    let mut batch = BatchRow::new(
        number(row, 0)?,
        Digest::from_bytes(column(row, 2)?),
        Origin::from_code(code(row, 3)?)?,
        Timestamp::from_unix_ms(column(row, 5)?),
        Digest::from_bytes(column(row, 9)?),
    );
    let key: Option<String> = column(row, 1)?;
    batch.key = key
        .map(IdempotencyKey::new)
        .transpose()
        .map_err(|e| Error::corrupt(format!("a stored key: {e}")))?;
    batch.resolves = optional_number(row, 4)?;
    let expires_ms: Option<i64> = column(row, 6)?;
    batch.expires_at = expires_ms.map(Timestamp::from_unix_ms);
    batch.first_transfer = number(row, 7)?;
    batch.n_transfers = number(row, 8)?;
    batch.memo = column(row, 10)?;
    Ok(batch)
}

pub(in super::super) fn transfer(row: &Row<'_>) -> Result<TransferRow> {
    let transfer = TransferRow::new(
        number(row, 0)?,
        number(row, 1)?,
        number(row, 2)?,
        number(row, 3)?,
        column(row, 4)?,
        TransferKind::from_code(code(row, 5)?)?,
    );
    Ok(transfer.with_hold(optional_number(row, 6)?))
}

pub(in super::super) fn account(row: &Row<'_>) -> Result<Account> {
    let name = AccountName::new(text(row, 2)?)
        .map_err(|e| Error::corrupt(format!("a stored account name: {e}")))?;
    let balances = Balances::new(
        column(row, 5)?,
        column(row, 6)?,
        column(row, 7)?,
        column(row, 8)?,
    );
    Ok(Account::new(
        number(row, 0)?,
        asset(row, 1)?,
        name,
        Guard::from_code(code(row, 3)?)?,
        number(row, 4)?,
        balances,
    ))
}
