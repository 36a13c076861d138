//! The transport by reqwest.

use std::fmt;
use std::time::Duration;

use agent_core::{ErrorKind, Retry};
use async_trait::async_trait;
use reqwest::{Client, redirect};

use super::{Answer, Lost, Request, Transport};
use crate::error::{Error, Result};

/// How requests are sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DirectConfig {
    timeout: Duration,
    answer_bytes_max: usize,
    is_plain_allowed: bool,
}

impl Default for DirectConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl DirectConfig {
    /// 30 seconds for a request, answers of 1 MiB, TLS unless the host is this machine.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            answer_bytes_max: 1 << 20,
            is_plain_allowed: false,
        }
    }

    /// Sets how long a request may take with its answer. Default: 30 seconds.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the longest body of an answer in bytes. Default: 1 MiB.
    #[must_use]
    pub const fn with_answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    /// Allows `http` to hosts other than this machine: keys and payments are then read, and can be
    /// altered, by whoever is on the way. Default: not allowed.
    #[must_use]
    pub const fn allowing_plain_http(mut self) -> Self {
        self.is_plain_allowed = true;
        self
    }
}

/// A [`Transport`] by reqwest, with a pool of connections. It takes no proxy from the environment.
pub struct Direct {
    config: DirectConfig,
    client: Client,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Direct {
    /// Prepares a transport. Nothing is sent.
    ///
    /// # Errors
    /// `Internal` when TLS cannot be set up on this machine.
    pub fn new(config: DirectConfig) -> Result<Self> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .timeout(config.timeout)
            .build()
            .map_err(|e| {
                Error::backend(
                    "reqwest",
                    "set up a client",
                    ErrorKind::Internal,
                    Retry::Never,
                    e,
                )
            })?;
        Ok(Self { config, client })
    }

    /// Refuses what would go in plain text to another machine.
    fn check(&self, request: &reqwest::Request) -> Result<(), Lost> {
        let url = request.url();
        let host = url.host_str().unwrap_or_default();
        let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        match url.scheme() {
            "https" => Ok(()),
            "http" if is_here || self.config.is_plain_allowed => Ok(()),
            "http" => Err(Lost::not_sent("`http` to another machine must be allowed")),
            _ => Err(Lost::not_sent("neither `https` nor `http`")),
        }
    }
}

#[async_trait]
impl Transport for Direct {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let request =
            reqwest::Request::try_from(request).map_err(|e| Lost::not_sent(e.without_url()))?;
        self.check(&request)?;
        let sent = self.client.execute(request).await;
        let mut response = sent.map_err(|e| {
            let is_not_sent = e.is_connect() || e.is_builder();
            let e = e.without_url();
            if is_not_sent {
                Lost::not_sent(e)
            } else {
                Lost::may_have_arrived(e)
            }
        })?;
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            headers.clone_from(response.headers());
        }
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|e| Lost::may_have_arrived(e.without_url()))?;
            let Some(chunk) = chunk else { break };
            if body.len().saturating_add(chunk.len()) > self.config.answer_bytes_max {
                return Err(Lost::may_have_arrived("an answer longer than is read"));
            }
            body.extend_from_slice(&chunk);
        }
        answer.body(body).map_err(Lost::may_have_arrived)
    }
}
