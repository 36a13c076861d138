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

#[async_trait]
impl<E: Embedder + ?Sized> Embedder for Arc<E> {
    fn space(&self) -> &str {
        (**self).space()
    }

    fn dimensions(&self) -> usize {
        (**self).dimensions()
    }

    async fn embed(&self, scope: &Scope, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        (**self).embed(scope, texts).await
    }
}
