//! The conversions scoring needs, each in one place with the reason it is harmless.

/// A count as a score's factor; counts stay far below 2^24, and beyond it only precision is lost.
#[expect(
    clippy::cast_precision_loss,
    reason = "scores need no more than 24 bits of a count"
)]
pub(crate) const fn from_count(n: usize) -> f32 {
    n as f32
}

/// A sum of 8-bit products as a similarity.
#[expect(
    clippy::cast_precision_loss,
    reason = "a similarity needs no more than 24 bits"
)]
pub(super) const fn from_dot(dot: i32) -> f32 {
    dot as f32
}

/// A number between -127 and 127 as a byte.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the caller has brought it into range; the cast saturates"
)]
pub(super) fn to_i8(x: f32) -> i8 {
    x.round().clamp(-127.0, 127.0) as i8
}

/// The number of a row, a word or a place, in the 32 bits that the index keeps; four thousand
/// million of them do not fit into main memory.
pub(super) fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A count of bits of a word.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a word has 64 bits, each of which counts four times at most"
)]
pub(super) const fn to_u16(n: u32) -> u16 {
    n as u16
}
