//! One call to Stripe: what goes out with it, and how its answer is read.

use std::fmt;
use std::sync::Arc;

use agent_core::{Digest, ExposeSecret, IdempotencyKey, Secret};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::de::DeserializeOwned;

use super::error::CallError;
use super::form::Form;
use super::id::AccountId;
use super::{API_VERSION, API_VERSION_SHARED};
use crate::error::{Error, Result};
use crate::transport::{Request, Transport};

/// How Stripe is reached.
#[derive(Clone)]
#[non_exhaustive]
pub struct StripeConfig {
    base: String,
    key: Arc<Secret>,
    account: Option<AccountId>,
}

impl fmt::Debug for StripeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeConfig")
            .field("base", &self.base)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl StripeConfig {
    /// Where Stripe is.
    pub const BASE: &str = "https://api.stripe.com";

    /// Takes a secret or, better, a restricted key. At [`StripeConfig::BASE`], for the account the
    /// key belongs to.
    #[must_use]
    pub fn new(key: Secret) -> Self {
        Self {
            base: Self::BASE.to_owned(),
            key: Arc::new(key),
            account: None,
        }
    }

    /// Sets where Stripe is, without a path. Default: [`StripeConfig::BASE`].
    #[must_use]
    pub fn with_base(mut self, base: impl Into<String>) -> Self {
        self.base = base.into().trim_end_matches('/').to_owned();
        self
    }

    /// Acts for a connected account. Default: for the account of the key.
    #[must_use]
    pub fn with_account(mut self, account: AccountId) -> Self {
        self.account = Some(account);
        self
    }
}

/// A client of Stripe's interface, pinned to [`API_VERSION`]. Cheap to clone. It repeats nothing by
/// itself.
#[derive(Clone)]
pub struct Stripe {
    config: StripeConfig,
    transport: Arc<dyn Transport>,
    authorization: HeaderValue,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Stripe {
    /// Prepares a client. Nothing is sent.
    ///
    /// # Errors
    /// `Invalid` for a key that cannot be one: empty, or with characters no key has. A publishable
    /// key is refused too, since it could only fail.
    pub fn new(config: StripeConfig, transport: Arc<dyn Transport>) -> Result<Self> {
        let key = config.key.expose_secret();
        let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !(is_plain && (key.starts_with("sk_") || key.starts_with("rk_"))) {
            return Err(Error::invalid(
                "key",
                "a secret or restricted key of Stripe",
            ));
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_text| Error::invalid("key", "a secret or restricted key of Stripe"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            config,
            transport,
            authorization,
        })
    }

    /// Asks for a thing.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Form,
    ) -> Result<T, CallError> {
        let query = query.encode();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{query}", self.config.base);
        self.send(http::Request::get(url), Vec::new(), API_VERSION)
            .await
    }

    /// Changes something, once for one key.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&IdempotencyKey>,
        form: &Form,
    ) -> Result<T, CallError> {
        self.post_in(API_VERSION, path, key, form).await
    }

    /// Changes something of what exists in the preview of shared tokens alone.
    pub(super) async fn post_shared<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&IdempotencyKey>,
        form: &Form,
    ) -> Result<T, CallError> {
        self.post_in(API_VERSION_SHARED, path, key, form).await
    }

    /// Asks for what exists in the preview of shared tokens alone.
    pub(super) async fn get_shared<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let url = format!("{}{path}", self.config.base);
        let request = http::Request::get(url);
        self.send(request, Vec::new(), API_VERSION_SHARED).await
    }

    async fn post_in<T: DeserializeOwned>(
        &self,
        version: &'static str,
        path: &str,
        key: Option<&IdempotencyKey>,
        form: &Form,
    ) -> Result<T, CallError> {
        let mut request = http::Request::post(format!("{}{path}", self.config.base))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(key) = key {
            request = request.header("idempotency-key", key.as_str());
        }
        self.send(request, form.encode().into_bytes(), version)
            .await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        body: Vec<u8>,
        version: &'static str,
    ) -> Result<T, CallError> {
        let mut request = request
            .header(AUTHORIZATION, &self.authorization)
            .header("stripe-version", version);
        if let Some(account) = &self.config.account {
            request = request.header("stripe-account", account.as_str());
        }
        let request: Request = request
            .body(body)
            .map_err(|e| Error::invalid("address of Stripe", e.to_string()))?;
        CallError::read(&self.transport.send(request).await?)
    }
}

/// Derives the key a step of a payment is sent under: the same on every try, and of one length
/// whatever the payment's own key is.
///
/// # Errors
/// None: the text it makes is a key.
pub(super) fn step_key(step: &'static str, id: &str) -> Result<IdempotencyKey> {
    let digest = Digest::of_json(&("agent-pay stripe v1", step, id))?;
    Ok(IdempotencyKey::new(format!("agent-pay-{step}-{digest}"))?)
}
