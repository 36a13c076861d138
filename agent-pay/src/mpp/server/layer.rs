//! The server as a layer of tower, for axum and whatever else speaks it.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agent_core::{BoxError, ClockExt, Principal};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use tower::{Layer, Service};

use super::stored::RECEIPT;
use super::{Offer, Sale, Server, ServerConfig, Ticket, Verdict};
use crate::mpp::accept::AcceptPayment;
use crate::mpp::credential::Credential;
use crate::mpp::problem::{Problem, ProblemDetails};
use crate::mpp::receipt::Receipt;

/// The longest body of a request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Says what a request costs.
///
/// This is the contract for _implementors_: a pure function of the request, since it is asked for
/// the offer and again for the credential. No offer means that the request is free.
pub trait Pricing: Send + Sync + 'static {
    /// Returns how the request may be paid, what the seller would rather first.
    fn offers(&self, request: &Parts) -> Vec<Offer>;
}

impl<F> Pricing for F
where
    F: Fn(&Parts) -> Vec<Offer> + Send + Sync + 'static,
{
    fn offers(&self, request: &Parts) -> Vec<Offer> {
        self(request)
    }
}

/// Who paid for a request: an extension of the request a handler gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buyer(Principal);

impl Buyer {
    /// Returns the name.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.0
    }
}

/// A layer that lets a request through when it is paid for, once.
///
/// The handler runs on when the client goes away: its answer is paid for, and given when the
/// credential comes again. Wait with [`Server::close`] before the process ends.
#[derive(Clone)]
pub struct PaidLayer {
    server: Server,
    pricing: Arc<dyn Pricing>,
}

impl fmt::Debug for PaidLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaidLayer")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl PaidLayer {
    /// Sells what is behind the layer.
    #[must_use]
    pub fn new(server: Server, pricing: impl Pricing) -> Self {
        let pricing = Arc::new(pricing);
        Self { server, pricing }
    }
}

impl<S> Layer<S> for PaidLayer {
    type Service = Paid<S>;

    fn layer(&self, inner: S) -> Paid<S> {
        let layer = self.clone();
        Paid { inner, layer }
    }
}

/// A service behind [`PaidLayer`].
#[derive(Clone, Debug)]
pub struct Paid<S> {
    inner: S,
    layer: PaidLayer,
}

type Reply = Response<Full<Bytes>>;

impl<S, B, R> Service<http::Request<B>> for Paid<S>
where
    S: Service<http::Request<Full<Bytes>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body + Send + 'static,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        // A client that goes away loses the answer, and neither the work nor the payment.
        let tracker = layer.server.tracker.clone();
        let served = tracker.spawn(async move { layer.serve(inner, request).await });
        Box::pin(async move {
            let failed = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(served.await.unwrap_or_else(|_panic| plain(failed)))
        })
    }
}

impl PaidLayer {
    async fn serve<S, B, R>(&self, inner: S, request: http::Request<B>) -> Reply
    where
        S: Service<http::Request<Full<Bytes>>, Response = Response<R>> + Send,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<BoxError>,
        R: Body + Send,
        R::Data: Send,
        R::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let offers = self.pricing.offers(&parts);
        let Some(body) = read(body, REQUEST_BYTES_MAX).await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE);
        };
        if offers.is_empty() {
            return run(inner, parts, body).await.unwrap_or_else(plain);
        }
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let sale = Sale::new(format!("{} {target}", parts.method), offers).with_body(body.clone());
        let credential = match presented(&parts.headers) {
            Ok(Some(credential)) => credential,
            Ok(None) => {
                let problem = Problem::PaymentRequired;
                let details = problem.details("a payment is required");
                return self.refuse(&sale, &parts.headers, problem, &details);
            }
            Err(reply) => match *reply {
                Presented::Several => return plain(StatusCode::BAD_REQUEST),
                Presented::Malformed => {
                    let problem = Problem::MalformedCredential;
                    let details = problem.details("the credential cannot be read");
                    return self.refuse(&sale, &parts.headers, problem, &details);
                }
            },
        };
        let is_bodyless = parts.method == Method::HEAD;
        let verdict = self.server.present(&credential, &sale, is_bodyless).await;
        let ticket = match verdict {
            Ok(Verdict::Run(ticket)) => ticket,
            Ok(Verdict::Replayed(answer)) => return answer.map(|body| Full::new(body.into())),
            Ok(Verdict::Taken(receipt)) => return taken(&receipt),
            Ok(Verdict::Refused(refused)) => {
                let details = refused.details();
                return self.refuse(&sale, &parts.headers, refused.problem, &details);
            }
            Ok(Verdict::Busy { retry_after }) => {
                return later(StatusCode::CONFLICT, retry_after.as_secs());
            }
            // Nobody can say whether it was taken: never a 402.
            Err(_store) => return later(StatusCode::SERVICE_UNAVAILABLE, 1),
        };
        self.serve_paid(ticket, inner, (parts, body)).await
    }

    /// Runs the handler for a ticket and settles it.
    async fn serve_paid<S, R>(
        &self,
        ticket: Ticket,
        inner: S,
        (mut parts, body): (Parts, Bytes),
    ) -> Reply
    where
        S: Service<http::Request<Full<Bytes>>, Response = Response<R>> + Send,
        S::Future: Send,
        S::Error: Into<BoxError>,
        R: Body + Send,
        R::Data: Send,
        R::Error: Into<BoxError>,
    {
        // What pays is not for handlers and their logs.
        parts.headers.remove(AUTHORIZATION);
        parts.extensions.insert(Buyer(ticket.buyer().clone()));
        let until = self.server.run_until();
        let ran = self
            .server
            .env
            .clock
            .deadline(until, run(inner, parts, body));
        let ran = ran.await.unwrap_or(Err(StatusCode::GATEWAY_TIMEOUT));
        let reply = match ran {
            Ok(reply) => reply,
            Err(status) => plain(status),
        };
        let (head, body) = reply.into_parts();
        let Some(body) = read(body, ServerConfig::ANSWER_BYTES_MAX.saturating_add(1)).await else {
            return self.unpaid(ticket).await;
        };
        let answer = Response::from_parts(head, body.to_vec());
        match self.server.settle(ticket, answer).await {
            Ok(answer) => answer.map(|body| Full::new(body.into())),
            Err(crate::Error::Invalid { .. }) => plain(StatusCode::INTERNAL_SERVER_ERROR),
            Err(_store) => later(StatusCode::SERVICE_UNAVAILABLE, 1),
        }
    }

    async fn unpaid(&self, ticket: Ticket) -> Reply {
        let failed = plain(StatusCode::INTERNAL_SERVER_ERROR);
        let answer = failed.map(|_body| Vec::new());
        match self.server.settle(ticket, answer).await {
            Ok(answer) => answer.map(|body| Full::new(body.into())),
            Err(_store) => later(StatusCode::SERVICE_UNAVAILABLE, 1),
        }
    }

    /// Says what is wrong, with fresh offers of the ways the client can pay in.
    fn refuse(
        &self,
        sale: &Sale,
        headers: &HeaderMap,
        problem: Problem,
        details: &ProblemDetails,
    ) -> Reply {
        let Ok(mut challenges) = self.server.challenges(sale) else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let accepted = headers.get("accept-payment").and_then(|v| v.to_str().ok());
        if let Some(Ok(accepted)) = accepted.map(AcceptPayment::parse) {
            challenges = accepted.choose(challenges);
        }
        let status = StatusCode::from_u16(problem.status());
        let mut reply = plain(status.unwrap_or(StatusCode::PAYMENT_REQUIRED));
        let headers = reply.headers_mut();
        for challenge in challenges {
            if let Some(field) = challenge.to_field().ok().and_then(|f| f.parse().ok()) {
                headers.append(WWW_AUTHENTICATE, field);
            }
        }
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem_json);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let body = serde_json::to_vec(details).unwrap_or_default();
        reply.map(|_body| Full::new(body.into()))
    }
}

enum Presented {
    Several,
    Malformed,
}

/// Reads the one credential of a request.
fn presented(headers: &HeaderMap) -> Result<Option<Credential>, Box<Presented>> {
    let mut found = None;
    for field in headers.get_all(AUTHORIZATION) {
        let field = field
            .to_str()
            .map_err(|_bytes| Box::new(Presented::Malformed))?;
        match Credential::parse(field) {
            Ok(Some(_)) if found.is_some() => return Err(Box::new(Presented::Several)),
            Ok(Some(credential)) => found = Some(credential),
            Ok(None) => {}
            Err(_form) => return Err(Box::new(Presented::Malformed)),
        }
    }
    Ok(found)
}

/// Runs the handler, or says why it did not.
async fn run<S, R>(mut inner: S, parts: Parts, body: Bytes) -> Result<Reply, StatusCode>
where
    S: Service<http::Request<Full<Bytes>>, Response = Response<R>> + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    R: Body + Send,
    R::Data: Send,
    R::Error: Into<BoxError>,
{
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    let ready = std::future::poll_fn(|cx| inner.poll_ready(cx)).await;
    ready.map_err(|_handler| failed)?;
    let request = http::Request::from_parts(parts, Full::new(body));
    let (head, body) = inner
        .call(request)
        .await
        .map_err(|_handler| failed)?
        .into_parts();
    let body = read(body, ServerConfig::ANSWER_BYTES_MAX.saturating_add(1)).await;
    let body = body.ok_or(failed)?;
    Ok(Response::from_parts(head, Full::new(body)))
}

/// Reads a body of at most `max` bytes.
async fn read<B>(body: B, max: usize) -> Option<Bytes>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let body = Limited::new(body, max).collect().await.ok()?;
    Some(body.to_bytes())
}

fn plain(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

fn later(status: StatusCode, seconds: u64) -> Reply {
    let mut reply = plain(status);
    reply
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    let no_store = HeaderValue::from_static("no-store");
    reply.headers_mut().insert(CACHE_CONTROL, no_store);
    reply
}

fn taken(receipt: &Receipt) -> Reply {
    let mut reply = plain(StatusCode::OK);
    if let Some(field) = receipt.to_field().ok().and_then(|f| f.parse().ok()) {
        reply.headers_mut().insert(RECEIPT, field);
    }
    let private = HeaderValue::from_static("private");
    reply.headers_mut().insert(CACHE_CONTROL, private);
    reply
}
