//! Vectors from any endpoint that speaks OpenAI's embeddings API, hosted or local.
//!
//! The API: `POST {base}/embeddings` with `model`, `input` and `encoding_format`, answered by `data`
//! of `index` and `embedding` (OpenAI API reference, "Create embeddings").

mod answer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    Classify, ClockExt, Embedder, Env, Error, ErrorKind, ExposeSecret, Result, Retry, Scope,
    Secret, TokenVectors,
};
use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde_json::json;

const NAME: &str = "an embeddings endpoint";

/// How an endpoint is called.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenAiConfig {
    base: String,
    model: String,
    dimensions: usize,
    key: Option<Arc<Secret>>,
    timeout: Duration,
    batch: usize,
    attempts: u32,
    is_plain_allowed: bool,
}

impl OpenAiConfig {
    /// The most texts of one request unless another number is set; many servers refuse more.
    pub const BATCH_DEFAULT: usize = 256;
    /// The longest vector.
    pub const DIMENSIONS_MAX: usize = 16_384;

    /// Describes an endpoint: its base, such as `https://host/v1`, the model's name, and how long
    /// its vectors are. No key, 30 seconds for a request, [`OpenAiConfig::BATCH_DEFAULT`] texts in
    /// one, 4 attempts, TLS unless the host is this machine.
    #[must_use]
    pub fn new(base: impl Into<String>, model: impl Into<String>, dimensions: usize) -> Self {
        Self {
            base: base.into(),
            model: model.into(),
            dimensions,
            key: None,
            timeout: Duration::from_secs(30),
            batch: Self::BATCH_DEFAULT,
            attempts: 4,
            is_plain_allowed: false,
        }
    }

    /// Sets the key that goes with each request. Default: none.
    #[must_use]
    pub fn with_key(mut self, key: Secret) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// Sets how long one request may take. Default: 30 seconds.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the most texts of one request, at least 1. Default: [`OpenAiConfig::BATCH_DEFAULT`].
    #[must_use]
    pub const fn with_batch(mut self, texts: usize) -> Self {
        self.batch = texts;
        self
    }

    /// Sets how often a request is made that the other side was too busy for, at least 1. Default:
    /// 4, half a second after the first, then twice as long each time, or as long as it asks for.
    #[must_use]
    pub const fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Allows `http` to hosts other than this machine: texts and key are then read by whoever is on
    /// the way. Default: not allowed.
    #[must_use]
    pub const fn allowing_plain_http(mut self) -> Self {
        self.is_plain_allowed = true;
        self
    }

    fn url(&self) -> Result<Url> {
        let wrong = |reason: &str| Error::invalid("embeddings endpoint", reason);
        let base = format!("{}/embeddings", self.base.trim_end_matches('/'));
        let url = Url::parse(&base).map_err(|e| wrong(&e.to_string()))?;
        let host = url.host_str().unwrap_or_default();
        let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        match url.scheme() {
            "https" => Ok(url),
            "http" if is_here || self.is_plain_allowed => Ok(url),
            "http" => Err(wrong("`http` to another machine must be allowed")),
            _ => Err(wrong("neither `https` nor `http`")),
        }
    }
}

/// An embedder behind an endpoint that speaks OpenAI's embeddings API.
///
/// Vectors are brought to length one. An empty text has the zero vector and is not sent. An answer
/// of another shape than asked for, or with numbers that are not finite, is `Corrupt`; nothing of it
/// is used. Redirects are not followed, since they could carry the key away.
pub struct OpenAiEmbedder {
    config: OpenAiConfig,
    url: Url,
    space: String,
    client: Client,
    authorization: Option<HeaderValue>,
    env: Env,
}

impl fmt::Debug for OpenAiEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiEmbedder")
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

impl OpenAiEmbedder {
    /// The first wait between two attempts.
    const FIRST_WAIT: Duration = Duration::from_millis(500);
    /// The longest wait between two attempts; an endpoint that asks for more is the caller's to
    /// wait for.
    const WAIT_MAX: Duration = Duration::from_secs(30);

    /// Prepares an embedder. Nothing is sent.
    ///
    /// # Errors
    /// `Invalid` for a URL that is none or is not safe, a key that is no header value, dimensions of
    /// 0 or beyond [`OpenAiConfig::DIMENSIONS_MAX`], batches of 0 or no attempts.
    pub fn new(config: OpenAiConfig, env: &Env) -> Result<Self> {
        let url = config.url()?;
        let wrong = |reason: &str| Error::invalid("embedder", reason);
        if !(1..=OpenAiConfig::DIMENSIONS_MAX).contains(&config.dimensions) {
            return Err(wrong("dimensions of 1 to 16,384"));
        }
        if config.batch == 0 || config.attempts == 0 {
            return Err(wrong("at least one text in a request, and one attempt"));
        }
        let authorization = match &config.key {
            Some(key) => {
                let text = format!("Bearer {}", key.expose_secret());
                let value = HeaderValue::from_str(&text);
                let mut value = value.map_err(|_unsafe| wrong("a key of visible characters"))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            .build()
            .map_err(|e| broken("set up a client", ErrorKind::Internal, Retry::Never, e))?;
        let host = url.host_str().unwrap_or_default();
        let space = format!("{}@{host}/{}", config.model, config.dimensions);
        Ok(Self {
            url,
            space,
            client,
            authorization,
            env: env.clone(),
            config,
        })
    }

    /// Asks for the vectors of some texts, none of them empty.
    async fn ask(&self, scope: &Scope, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut wait = Self::FIRST_WAIT;
        for attempt in 1.. {
            let asked = scope.guard(self.env.clock.as_ref(), self.ask_once(texts));
            let error = match asked.await? {
                Ok(vectors) => return Ok(vectors),
                Err(error) => error,
            };
            let asks = error.retry_after().unwrap_or_default();
            let may_repeat = error.retry() == Retry::Safe && asks <= Self::WAIT_MAX;
            if !may_repeat || attempt >= self.config.attempts {
                return Err(error);
            }
            let sleep = self.env.clock.sleep(wait.max(asks));
            scope.guard(self.env.clock.as_ref(), sleep).await?;
            wait = wait.saturating_mul(2).min(Self::WAIT_MAX);
        }
        Err(Error::TimedOut)
    }

    async fn ask_once(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let body = json!({
            "model": self.config.model, "input": texts, "encoding_format": "float",
        });
        let mut request = self.client.post(self.url.clone()).json(&body);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        // Embedding changes nothing, so every failure of the way is safe to repeat.
        let response = request.send().await.map_err(|e| {
            let kind = if e.is_timeout() {
                ErrorKind::TimedOut
            } else {
                ErrorKind::Unavailable
            };
            broken("embed", kind, Retry::Safe, e.without_url())
        })?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let most = answer::bytes_max(texts.len(), self.config.dimensions);
        let bytes = answer::read(response, most).await?;
        answer::vectors(&bytes, texts.len(), self.config.dimensions)
    }
}

fn broken(
    operation: &'static str,
    kind: ErrorKind,
    retry: Retry,
    source: impl Into<agent_core::BoxError>,
) -> Error {
    Error::backend(NAME, operation, kind, retry, source)
}

/// Describes an answer that is a refusal.
async fn refused(response: Response) -> Error {
    let status = response.status();
    let asks = response.headers().get(RETRY_AFTER);
    let asks = asks.and_then(|value| value.to_str().ok()?.parse().ok());
    let (kind, retry) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (ErrorKind::Denied, Retry::Never),
        StatusCode::NOT_FOUND => (ErrorKind::NotFound, Retry::Never),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Exhausted, Retry::Safe),
        StatusCode::REQUEST_TIMEOUT => (ErrorKind::TimedOut, Retry::Safe),
        status if status.is_server_error() => (ErrorKind::Unavailable, Retry::Safe),
        _ => (ErrorKind::Invalid, Retry::Never),
    };
    let said = answer::refusal(response).await;
    let error = broken("embed", kind, retry, format!("status {status}: {said}"));
    match asks {
        Some(seconds) => error.with_retry_after(Duration::from_secs(seconds)),
        None => error,
    }
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn space(&self) -> &str {
        &self.space
    }

    fn dimensions(&self) -> usize {
        self.config.dimensions
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        None
    }

    async fn embed(&self, scope: &Scope, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let said: Vec<&str> = texts
            .iter()
            .map(String::as_str)
            .filter(|text| !text.is_empty())
            .collect();
        let mut vectors = Vec::with_capacity(said.len());
        for batch in said.chunks(self.config.batch) {
            vectors.extend(self.ask(scope, batch).await?);
        }
        let (mut vectors, zero) = (vectors.into_iter(), vec![0.0; self.config.dimensions]);
        let of = |text: &String| {
            if text.is_empty() {
                Some(zero.clone())
            } else {
                vectors.next()
            }
        };
        Ok(texts.iter().map_while(of).collect())
    }
}
