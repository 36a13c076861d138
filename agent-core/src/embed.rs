//! Text to vectors.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::scope::Scope;

/// Turns texts into vectors that lie close when the texts mean alike.
#[async_trait]
pub trait Embedder: fmt::Debug + Send + Sync + 'static {
    /// Returns the name and version of the vector space; vectors of two spaces do not compare.
    fn space(&self) -> &str;

    /// Returns the length of every vector.
    fn dimensions(&self) -> usize;

    /// Returns the vectors of single tokens, if the embedder has them for the asking.
    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>>;

    /// Embeds each text: as many vectors as texts, in their order, each finite and of
    /// `dimensions()` numbers, of length one unless the text is empty.
    ///
    /// # Errors
    /// `Invalid` for texts the embedder cannot take, `Unavailable` for a remote one that is away.
    ///
    /// # Cancel safety
    /// Cancel safe: no state is changed.
    async fn embed(&self, scope: &Scope, texts: &[String]) -> Result<Vec<Vec<f32>>>;
}

/// Vectors of single tokens, for late interaction: each token of a question is compared with the
/// one in a text that is most like it (Khattab and Zaharia 2020, arXiv 2004.12832).
///
/// All methods are cheap enough to be called some ten thousand times a search.
pub trait TokenVectors: fmt::Debug + Send + Sync + 'static {
    /// Returns how many tokens there are; they are numbered from zero.
    fn n_tokens(&self) -> usize;

    /// Returns the distinct tokens of a text in the order of their first place, at most `n_max`.
    fn tokens(&self, text: &str, n_max: usize) -> Vec<u32>;

    /// Returns how much a token tells, at least 0; rare tokens tell more. 0 for an unknown token.
    fn weight(&self, token: u32) -> f32;

    /// Returns how much two tokens are alike, from -1 to 1; 0 for an unknown token.
    fn likeness(&self, a: u32, b: u32) -> f32;
}

#[async_trait]
impl<E: Embedder + ?Sized> Embedder for Arc<E> {
    fn space(&self) -> &str {
        (**self).space()
    }

    fn dimensions(&self) -> usize {
        (**self).dimensions()
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        (**self).token_vectors()
    }

    async fn embed(&self, scope: &Scope, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        (**self).embed(scope, texts).await
    }
}
