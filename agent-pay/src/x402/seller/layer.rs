//! The layer of tower that sells what a service answers.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agent_core::BoxError;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tower::{Layer, Service};

use super::answer::{self, Whole};
use super::{Sale, Seller};
use crate::x402::header;

/// Sells what the services it is laid around answer. Works with any service of tower whose body can
/// be made from bytes, axum's routes among them (`route_layer`).
#[derive(Clone, Debug)]
pub struct PaidLayer {
    seller: Seller,
    sale: Arc<Sale>,
}

impl PaidLayer {
    pub(super) const fn new(seller: Seller, sale: Arc<Sale>) -> Self {
        Self { seller, sale }
    }
}

impl<S> Layer<S> for PaidLayer {
    type Service = Paid<S>;

    fn layer(&self, inner: S) -> Paid<S> {
        Paid {
            inner,
            seller: self.seller.clone(),
            sale: Arc::clone(&self.sale),
        }
    }
}

/// A service that is paid for.
#[derive(Clone)]
pub struct Paid<S> {
    inner: S,
    seller: Seller,
    sale: Arc<Sale>,
}

impl<S> fmt::Debug for Paid<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paid")
            .field("sale", &self.sale)
            .finish_non_exhaustive()
    }
}

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for Paid<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + From<Vec<u8>> + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: http_body::Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    type Response = Response<Full<bytes::Bytes>>;
    type Error = Infallible;
    type Future = Pinned<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Whether the inner service is ready matters only once a request is paid for.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (seller, sale, inner) = (
            self.seller.clone(),
            Arc::clone(&self.sale),
            self.inner.clone(),
        );
        let (parts, body) = request.into_parts();
        let url = seller.url(&parts);
        let is_payment = |name| parts.headers.contains_key(name);
        if !is_payment(header::PAYMENT_SIGNATURE) && !is_payment(header::X_PAYMENT) {
            return Box::pin(async move { Ok(whole(seller.offer(&sale, &url).await)) });
        }
        Box::pin(async move {
            let limited = Limited::new(body, seller.inner.config.body_bytes_max);
            let Ok(body) = limited.collect().await else {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Ok(whole(answer::problem(status, "body_too_long")));
            };
            let body = body.to_bytes().to_vec();
            let work = |request: Request<Vec<u8>>| answered(inner, request.map(B::from));
            // A client that hangs up must not leave a payment half done.
            let tracker = seller.inner.tracker.clone();
            let served = tracker.spawn(async move {
                seller
                    .serve(&sale, &url, Request::from_parts(parts, body), work)
                    .await
            });
            let internal = StatusCode::INTERNAL_SERVER_ERROR;
            let served = served.await;
            Ok(whole(served.unwrap_or_else(|_panic| {
                answer::problem(internal, "internal")
            })))
        })
    }
}

/// Waits for the inner service and collects its answer; what fails is 500.
async fn answered<S, B, R>(mut inner: S, request: Request<B>) -> Whole
where
    S: Service<Request<B>, Response = Response<R>>,
    R: http_body::Body,
    R::Error: Into<BoxError>,
{
    let failed = |code| answer::problem(StatusCode::INTERNAL_SERVER_ERROR, code);
    // Errors of services need not be `Send`, so none is held while waiting.
    if std::future::poll_fn(|cx| inner.poll_ready(cx))
        .await
        .is_err()
    {
        return failed("internal");
    }
    let Ok(answer) = inner.call(request).await else {
        return failed("internal");
    };
    let (parts, body) = answer.into_parts();
    match Limited::new(body, answer::BODY_BYTES_MAX).collect().await {
        Ok(body) => Response::from_parts(parts, body.to_bytes().to_vec()),
        Err(_too_long) => failed("answer_too_long"),
    }
}

fn whole(answer: Whole) -> Response<Full<bytes::Bytes>> {
    answer.map(|body| Full::new(bytes::Bytes::from(body)))
}
