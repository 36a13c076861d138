//! How many tokens a text has for a model.

use std::fmt;
use std::num::NonZeroUsize;

/// Counts the tokens of a text as a model does.
///
/// Called some hundred times for a context. An empty text has none.
pub trait CountTokens: fmt::Debug + Send + Sync + 'static {
    /// Returns how many tokens a text has.
    fn count(&self, text: &str) -> usize;
}

/// An estimate by length, for when the model's tokenizer is not at hand. Byte-pair encodings make a
/// token of about four bytes of English and of fewer in code, digits and other scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesPerToken(NonZeroUsize);

impl BytesPerToken {
    /// Counts one token for this many bytes begun.
    #[must_use]
    pub const fn new(bytes: NonZeroUsize) -> Self {
        Self(bytes)
    }
}

impl Default for BytesPerToken {
    /// Three bytes a token: rather too many tokens than too few for English.
    fn default() -> Self {
        Self(NonZeroUsize::MIN.saturating_add(2))
    }
}

impl CountTokens for BytesPerToken {
    fn count(&self, text: &str) -> usize {
        text.len().div_ceil(self.0.get())
    }
}

/// Word pieces of the bundled table. Unknown words count nothing, so texts of other languages have
/// more tokens for a model than this says.
#[cfg(feature = "static-embedder")]
impl CountTokens for crate::static_embedder::StaticEmbedder {
    fn count(&self, text: &str) -> usize {
        self.n_pieces(text)
    }
}
