//! The bundled embedder: a table of word-piece vectors distilled from all-MiniLM-L6-v2, so that
//! search by meaning works offline, without a model runtime and always the same.

mod tokens;

use std::fmt;
use std::sync::Arc;

use agent_core::{Embedder, Scope, TokenVectors};
use async_trait::async_trait;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::wordpiece::Vocabulary;
use tokens::Pieces;

static TABLE: &[u8] = include_bytes!("../assets/minilm-static-256-int8.safetensors");

/// Texts between two points where other tasks of the runtime may run.
const TEXTS_PER_YIELD: usize = 64;

/// Embeds English text by adding up the vectors of its word pieces, without case.
///
/// The vector of a text is the sum of its pieces' vectors, rare pieces counting more, brought to
/// length one. Word order does not matter. A text without known pieces has the zero vector.
pub struct StaticEmbedder {
    table: Arc<Table>,
    pieces: Arc<Pieces>,
}

struct Table {
    vocabulary: Vocabulary,
    /// The pieces' vectors, one after another.
    rows: &'static [u8],
    scales: Vec<f32>,
}

impl fmt::Debug for StaticEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticEmbedder")
            .field("space", &Self::SPACE)
            .finish_non_exhaustive()
    }
}

impl StaticEmbedder {
    /// The name and version of the vector space: the table's name and digest.
    pub const SPACE: &'static str = "minilm-static-256-int8@464863e75e339d4d";
    /// The length of every vector.
    pub const DIMENSIONS: usize = 256;
    /// The most word pieces of a text that count; a long page has fewer.
    pub const PIECES_MAX: usize = 8_192;

    /// Loads the bundled table, in a few milliseconds.
    ///
    /// # Errors
    /// `Corrupt` if the table in the binary is damaged.
    pub fn new() -> Result<Self> {
        let damaged = |_| Error::corrupt("the bundled table cannot be read");
        let table = SafeTensors::deserialize(TABLE).map_err(damaged)?;
        let rows = table.tensor("emb").map_err(damaged)?;
        let scale = table.tensor("scale").map_err(damaged)?;
        let vocab = table.tensor("vocab").map_err(damaged)?;
        let vocabulary = Vocabulary::parse(vocab.data())
            .ok_or(Error::corrupt("the bundled vocabulary is not UTF-8"))?;
        let scales: Vec<f32> = scale
            .data()
            .chunks_exact(4)
            .filter_map(|bytes| bytes.try_into().ok().map(f32::from_le_bytes))
            .collect();
        let is_whole = rows.dtype() == Dtype::I8
            && scale.dtype() == Dtype::F32
            && rows.shape() == [vocabulary.len(), Self::DIMENSIONS]
            && scales.len() == vocabulary.len()
            && scales.iter().all(|scale| scale.is_finite());
        if !is_whole {
            return Err(Error::corrupt("the bundled table has another shape"));
        }
        let table = Arc::new(Table {
            vocabulary,
            rows: rows.data(),
            scales,
        });
        let pieces = Arc::new(Pieces::new(Arc::clone(&table)));
        Ok(Self { table, pieces })
    }

    /// Counts the word pieces of a text that the table knows, [`StaticEmbedder::PIECES_MAX`] at the
    /// most: about what a model's tokenizer counts.
    #[must_use]
    pub fn n_pieces(&self, text: &str) -> usize {
        let mut n = 0;
        let vocabulary = &self.table.vocabulary;
        vocabulary.for_each_piece(text, Self::PIECES_MAX, |_piece| n += 1);
        n
    }

    /// Embeds one text, on the caller's thread.
    #[must_use]
    pub fn embed_one(&self, text: &str) -> Vec<f32> {
        let mut sum = vec![0.0_f32; Self::DIMENSIONS];
        let table = &self.table;
        table
            .vocabulary
            .for_each_piece(text, Self::PIECES_MAX, |piece| {
                let start = piece * Self::DIMENSIONS;
                let row = table.rows.get(start..start + Self::DIMENSIONS);
                let scale = table.scales.get(piece).copied().unwrap_or(0.0);
                for (sum, byte) in sum.iter_mut().zip(row.unwrap_or_default()) {
                    *sum += scale * f32::from(i8::from_ne_bytes([*byte]));
                }
            });
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            sum.iter_mut().for_each(|x| *x /= norm);
        }
        sum
    }
}

#[async_trait]
impl Embedder for StaticEmbedder {
    fn space(&self) -> &str {
        Self::SPACE
    }

    fn dimensions(&self) -> usize {
        Self::DIMENSIONS
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        Some(Arc::<Pieces>::clone(&self.pieces))
    }

    async fn embed(&self, _scope: &Scope, texts: &[String]) -> agent_core::Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::with_capacity(texts.len());
        for part in texts.chunks(TEXTS_PER_YIELD) {
            vectors.extend(part.iter().map(|text| self.embed_one(text)));
            tokio::task::yield_now().await;
        }
        Ok(vectors)
    }
}
