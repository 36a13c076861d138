//! How rails over HTTP reach the other side: a request goes out once, and what is known of it when
//! no answer came is said exactly, since money hangs on it.

mod call;
mod direct;

use std::fmt;
use std::sync::Arc;

use agent_core::BoxError;
use async_trait::async_trait;

#[cfg(any(feature = "acp", feature = "stripe"))]
pub(crate) use call::plain;
pub use call::{CallError, Refuses};
pub use direct::{Direct, DirectConfig};

/// A request, its body whole.
pub type Request = http::Request<Vec<u8>>;
/// An answer, its body whole.
pub type Answer = http::Response<Vec<u8>>;

/// No whole answer came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The request cannot have arrived: repeat it as you like.
    #[error("the request was not sent")]
    #[non_exhaustive]
    NotSent {
        /// Why.
        source: BoxError,
    },
    /// The request may have arrived and may have had its effect, or have it yet.
    #[error("the answer was lost")]
    #[non_exhaustive]
    MayHaveArrived {
        /// Why.
        source: BoxError,
    },
}

impl Lost {
    /// The request cannot have arrived.
    pub fn not_sent(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::NotSent { source }
    }

    /// The request may have arrived.
    pub fn may_have_arrived(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::MayHaveArrived { source }
    }

    /// Returns whether the request may have had an effect.
    #[must_use]
    pub const fn may_have_had_effect(&self) -> bool {
        matches!(self, Self::MayHaveArrived { .. })
    }
}

/// Sends requests.
///
/// This is the contract for _implementors_: one request on the wire for each call at most, so no
/// repeating of what may have arrived, and no following of redirects, which would carry payments and
/// keys to whoever the other side names. Bodies are bounded by the implementation. When in doubt the
/// answer is [`Lost::MayHaveArrived`].
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request and reads the whole answer, of whatever status.
    ///
    /// # Errors
    /// [`Lost`], which says whether the request may have arrived.
    ///
    /// # Cancel safety
    /// Not cancel safe: the request may have arrived.
    async fn send(&self, request: Request) -> Result<Answer, Lost>;
}

#[async_trait]
#[deny(
    clippy::missing_trait_methods,
    reason = "a forwarded transport forwards everything"
)]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        (**self).send(request).await
    }
}
