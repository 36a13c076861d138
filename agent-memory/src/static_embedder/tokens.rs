//! Single word pieces of the bundled table, for late interaction.

use std::fmt;
use std::sync::Arc;

use agent_core::TokenVectors;

use super::Table;

/// How many of a row's numbers are compared. They are principal components in falling order: the
/// first quarter finds what all of them find, at a quarter of the price.
const DIMENSIONS: usize = 64;
/// Numbers multiplied at a time, added up in pairs.
const LANES: usize = 32;

/// The pieces' directions.
pub(super) struct Pieces {
    table: Arc<Table>,
    /// One over the length of each piece's vector; 0 for pieces without one.
    inverse_lengths: Vec<f32>,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

impl Pieces {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let inverse = |piece| {
            let row = row(&table, piece);
            let square: i32 = row.iter().map(|b| product(*b, *b)).sum();
            let length = from_sum(square).sqrt();
            if length > 0.0 { 1.0 / length } else { 0.0 }
        };
        let inverse_lengths = (0..table.scales.len()).map(inverse).collect();
        Self {
            table,
            inverse_lengths,
        }
    }

    fn inverse_length(&self, token: u32) -> f32 {
        let length = self.inverse_lengths.get(index(token));
        length.copied().unwrap_or(0.0)
    }
}

impl TokenVectors for Pieces {
    fn n_tokens(&self) -> usize {
        self.table.scales.len()
    }

    fn tokens(&self, text: &str, n_max: usize) -> Vec<u32> {
        let mut tokens: Vec<u32> = Vec::new();
        let table = &self.table;
        table
            .vocabulary
            .for_each_piece(text, super::StaticEmbedder::PIECES_MAX, |piece| {
                let Ok(token) = u32::try_from(piece) else {
                    return;
                };
                if tokens.len() < n_max && self.weight(token) > 0.0 && !tokens.contains(&token) {
                    tokens.push(token);
                }
            });
        tokens
    }

    fn weight(&self, token: u32) -> f32 {
        let scale = self.table.scales.get(index(token));
        scale.copied().unwrap_or(0.0)
    }

    fn likeness(&self, a: u32, b: u32) -> f32 {
        let inverse = self.inverse_length(a) * self.inverse_length(b);
        if inverse <= 0.0 {
            return 0.0;
        }
        let (xs, ys) = (row(&self.table, index(a)), row(&self.table, index(b)));
        let ((xs, _), (ys, _)) = (xs.as_chunks::<LANES>(), ys.as_chunks::<LANES>());
        let mut total = 0;
        for (xs, ys) in xs.iter().zip(ys) {
            total += xs.iter().zip(ys).map(|(x, y)| product(*x, *y)).sum::<i32>();
        }
        from_sum(total) * inverse
    }
}

fn index(token: u32) -> usize {
    usize::try_from(token).unwrap_or(usize::MAX)
}

/// The first numbers of a piece's row.
fn row(table: &Table, piece: usize) -> &[u8] {
    let start = piece.saturating_mul(super::StaticEmbedder::DIMENSIONS);
    let row = table.rows.get(start..start.saturating_add(DIMENSIONS));
    row.unwrap_or_default()
}

fn product(a: u8, b: u8) -> i32 {
    let number = |byte: u8| i32::from(i8::from_ne_bytes([byte]));
    number(a) * number(b)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "64 products of 8-bit numbers are far below 2^24"
)]
const fn from_sum(sum: i32) -> f32 {
    sum as f32
}
