//! The stored form of single values, shared by the backends that keep tables.

use agent_core::Principal;

use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::memory::{Kind, MemoryId, Trust};
use crate::metadata::Metadata;

/// An id as it is stored: big-endian, so that the order of bytes is the order of ids.
pub(crate) const fn id_bytes(id: MemoryId) -> [u8; 16] {
    id.to_bits().to_be_bytes()
}

pub(crate) const fn id_of(bytes: [u8; 16]) -> MemoryId {
    MemoryId::from_bits(u128::from_be_bytes(bytes))
}

pub(crate) fn actor_of(name: &str) -> Result<Principal> {
    Principal::new(name).map_err(|_name| Error::corrupt("an actor has no known form"))
}

pub(crate) fn kind_of(name: &str) -> Result<Kind> {
    Kind::parse(name).ok_or(Error::corrupt("a kind is unknown"))
}

pub(crate) fn trust_of(rank: i64) -> Result<Trust> {
    Trust::parse(rank).ok_or(Error::corrupt("a level of trust is unknown"))
}

pub(crate) fn metadata_of(json: &str) -> Result<Metadata> {
    serde_json::from_str(json).map_err(|_json| Error::corrupt("labels have no known form"))
}

pub(crate) fn vector_bytes(vector: &Quantized) -> Vec<u8> {
    vector
        .bytes
        .iter()
        .flat_map(|byte| byte.to_ne_bytes())
        .collect()
}

pub(crate) fn vector_of(bytes: &[u8], scale: f64) -> Quantized {
    Quantized {
        bytes: bytes.iter().map(|b| i8::from_ne_bytes([*b])).collect(),
        scale: narrow(scale),
    }
}

/// A number that was stored from 32 bits and fits them again.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the databases keep 64 bits of a number that had 32"
)]
pub(crate) const fn narrow(x: f64) -> f32 {
    x as f32
}
