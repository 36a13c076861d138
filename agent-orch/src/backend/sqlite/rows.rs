//! Conversions between columns and types.

use agent_core::store::{self, sql};
use agent_core::{Digest, RunId, TaskId};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// 128 bits of an id as a 16-byte blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits(pub(super) u128);

impl FromSql for Bits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes =
            <[u8; 16]>::try_from(value.as_blob()?).map_err(|_length| FromSqlError::InvalidType)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

impl ToSql for Bits {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_be_bytes().to_vec().into())
    }
}

pub(super) const fn run_bits(run: RunId) -> Bits {
    Bits(run.to_bits())
}

pub(super) const fn task_bits(task: TaskId) -> Bits {
    Bits(task.to_bits())
}

/// A digest as a 32-byte blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(pub(super) Digest);

impl FromSql for Hash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes =
            <[u8; 32]>::try_from(value.as_blob()?).map_err(|_length| FromSqlError::InvalidType)?;
        Ok(Self(Digest::from_bytes(bytes)))
    }
}

impl ToSql for Hash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_bytes().as_slice().into())
    }
}

/// A JSON column.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::invalid("value", e.to_string()))
}

/// Reads a JSON column; a column that does not parse was damaged after it was written.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| damaged(format!("a stored value does not parse: {e}")))
}

/// Reads one column.
pub(super) fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T> {
    Ok(row.get(name).map_err(sql("read a column"))?)
}

pub(super) fn damaged(found: String) -> Error {
    store::Error::corrupt(found).into()
}

/// A count or fence as SQLite's signed integer; these never reach 2^63.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The reverse of [`signed`].
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
