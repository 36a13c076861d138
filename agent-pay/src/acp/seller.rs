//! What a seller does with a request, once for its key.

mod complete;
mod config;
mod purge;

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Db, Tx};
use agent_core::{Clock, Digest, Entropy, Env, IdempotencyKey};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::{Problem, Reply};
use super::card::{self, CardToStore, DelegateRequest, Vault, VaultError};
use super::merchant::{Cart, Merchant};
use super::render;
use super::session::{Session, SessionStatus};
use super::store::{self, Versioned};
use super::wire::{CreateRequest, Item, UpdateRequest};
use crate::backend::sqlite::authority::{self, Answer, Begin};
use crate::currency::iso_scale;
use crate::error::{Error, Result};

pub use config::SellerConfig;
pub use purge::Purged;

/// A request that changes something. It has no `Debug`: the body may hold a card.
pub(super) struct Call {
    pub(super) who: String,
    pub(super) path: String,
    pub(super) key: IdempotencyKey,
    pub(super) body: Value,
}

/// What a request writes at its end, together with its answer.
pub(super) type Write = Box<dyn FnOnce(&mut Tx<'_>) -> Result<Written> + Send>;

pub(super) enum Written {
    Answer(u16, Value),
    /// Somebody else wrote in between.
    Changed,
}

/// A seller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Seller {
    pub(super) db: Db,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    merchant: Arc<dyn Merchant>,
    vault: Option<Arc<dyn Vault>>,
    pub(super) config: Arc<SellerConfig>,
}

impl Seller {
    /// How long a request may run before another with its key may: longer than taking a payment.
    const LEASE: Duration = Duration::from_secs(60);
    /// The most lines of a cart, and of one item in it.
    const ITEMS_MAX: usize = 200;

    /// Opens a seller whose sessions are kept in `db`. It delegates no payments.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(
        config: SellerConfig,
        db: Db,
        env: &Env,
        merchant: impl Merchant,
    ) -> Result<Self> {
        store::migrate(&db).await?;
        Ok(Self {
            db,
            clock: Arc::clone(&env.clock),
            entropy: Arc::clone(&env.entropy),
            merchant: Arc::new(merchant),
            vault: None,
            config: Arc::new(config),
        })
    }

    /// Takes cards for the vault. Default: no delegated payments.
    #[must_use]
    pub fn with_vault(mut self, vault: impl Vault) -> Self {
        self.vault = Some(Arc::new(vault));
        self
    }

    /// Runs a request once for its key, or gives its answer again.
    async fn once<F>(&self, call: &Call, work: F) -> Reply
    where
        F: Future<Output = Result<Write, Problem>> + Send,
    {
        match self.begin(call).await {
            Ok(Begin::Run) => {}
            Ok(Begin::Replay(answer)) => {
                return Reply {
                    status: answer.status,
                    body: answer.body,
                    is_replayed: true,
                    retry_after: None,
                };
            }
            Err(problem) => return problem.into(),
        }
        let write: Write = match work.await {
            Ok(write) => write,
            Err(problem) => {
                let reply = Reply::from(problem);
                let done = self.finish(call, reply.clone()).await;
                return done.map_or_else(|error| Problem::from(error).into(), |()| reply);
            }
        };
        let (scope, key) = (scope(call), call.key.clone());
        let written = self.db.write(move |tx| {
            let reply = match write(tx)? {
                Written::Answer(status, body) => Reply::new(status, &body),
                Written::Changed => Problem::later(Duration::from_secs(1)).into(),
            };
            let answer = Answer::new(reply.status, reply.body.clone());
            authority::finish(tx, &scope, &key, &answer)?;
            Ok::<_, Error>(reply)
        });
        match written.await {
            Ok(reply) => reply,
            Err(error) => {
                let reply = Reply::from(Problem::from(error));
                // The key is free again; should even that fail, its lease ends.
                let _freed = self.finish(call, reply.clone()).await;
                reply
            }
        }
    }

    async fn begin(&self, call: &Call) -> Result<Begin, Problem> {
        let digest = self.config.digest(&call.body);
        let digest = digest.map_err(|_number| {
            Problem::invalid("invalid_request", "a number canonical JSON cannot carry")
        })?;
        let (scope, key) = (scope(call), call.key.clone());
        let begun = self
            .db
            .write(move |tx| authority::begin(tx, &scope, &key, &digest, Self::LEASE));
        begun.await.map_err(Problem::from)
    }

    async fn finish(&self, call: &Call, reply: Reply) -> Result<()> {
        let (scope, key) = (scope(call), call.key.clone());
        let answer = Answer::new(reply.status, reply.body);
        self.db
            .write(move |tx| authority::finish(tx, &scope, &key, &answer))
            .await
    }

    fn random(&self, prefix: &str) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        format!("{prefix}{}", hex::encode(bytes))
    }

    pub(super) async fn create(&self, call: Call) -> Reply {
        self.once(&call, self.do_create(&call)).await
    }

    async fn do_create(&self, call: &Call) -> Result<Write, Problem> {
        let request: CreateRequest = parse(&call.body)?;
        if !request.capabilities.is_object() {
            return Err(wrong("$.capabilities"));
        }
        let is_code = request.currency.bytes().all(|b| b.is_ascii_lowercase());
        if !is_code || iso_scale(&request.currency).is_none() {
            return Err(wrong("$.currency"));
        }
        let now = self.clock.now();
        let mut echoed = Map::new();
        for (name, text) in [
            ("locale", request.locale),
            ("timezone", request.timezone),
            ("quote_id", request.quote_id),
        ] {
            if let Some(text) = text {
                echoed.insert(name.to_owned(), Value::String(text));
            }
        }
        if let Some(metadata) = request.metadata.filter(Value::is_object) {
            echoed.insert("metadata".to_owned(), metadata);
        }
        let mut session = Session {
            v: Session::VERSION,
            id: self.random("cs_"),
            owner: call.who.clone(),
            status: SessionStatus::NotReadyForPayment,
            cart: Cart {
                items: counted(&request.line_items)?,
                currency: request.currency,
                buyer: request.buyer,
                details: request.fulfillment_details,
                selected: Vec::new(),
                coupons: request.coupons.unwrap_or_default(),
            },
            quote: super::merchant::Quote::new(),
            created: now,
            updated: now,
            expires: now.after(self.config.session_life),
            n_payments: 0,
            paying: None,
            order: None,
            echoed,
            is_forgotten: false,
        };
        self.requote(&mut session).await?;
        let shown = render::session(&session, &self.config)?;
        Ok(Box::new(move |tx| {
            store::insert(tx, &session)?;
            Ok(Written::Answer(201, shown))
        }))
    }

    async fn requote(&self, session: &mut Session) -> Result<(), Problem> {
        let quote = self.merchant.quote(&session.cart).await;
        let quote = quote.map_err(|error| Problem::later(error.retry_after))?;
        Ok(session.requote(quote, self.clock.now())?)
    }

    pub(super) async fn find(&self, who: &str, id: &str) -> Result<Versioned, Problem> {
        let (id, owner) = (id.to_owned(), who.to_owned());
        let found = self
            .db
            .read(move |tx| store::find(tx, &id, Some(&owner)))
            .await?;
        let missing = || Problem::invalid("not_found", "there is no such session").with_status(404);
        let mut found = found.ok_or_else(missing)?;
        found.session = found.session.at(self.clock.now());
        Ok(found)
    }

    pub(super) async fn get(&self, who: &str, id: &str) -> Reply {
        match self.find(who, id).await {
            Ok(found) => match render::session(&found.session, &self.config) {
                Ok(shown) => Reply::new(200, &shown),
                Err(error) => Problem::from(error).into(),
            },
            Err(problem) => problem.into(),
        }
    }

    pub(super) async fn update(&self, call: Call, id: &str) -> Reply {
        self.once(&call, self.do_update(&call, id)).await
    }

    async fn do_update(&self, call: &Call, id: &str) -> Result<Write, Problem> {
        let request: UpdateRequest = parse(&call.body)?;
        let mut found = self.find(&call.who, id).await?;
        found.session.must_be_open()?;
        let cart = &mut found.session.cart;
        if let Some(items) = &request.line_items {
            cart.items = counted(items)?;
        }
        cart.buyer = request.buyer.or_else(|| cart.buyer.take());
        cart.details = request.fulfillment_details.or_else(|| cart.details.take());
        cart.coupons = request
            .coupons
            .unwrap_or_else(|| std::mem::take(&mut cart.coupons));
        if let Some(selected) = request.selected_fulfillment_options {
            if selected.len() > 1 {
                return Err(
                    Problem::invalid("unsupported", "one way to deliver everything")
                        .about("$.selected_fulfillment_options"),
                );
            }
            cart.selected = selected;
        }
        self.requote(&mut found.session).await?;
        let shown = render::session(&found.session, &self.config)?;
        Ok(Box::new(move |tx| {
            Ok(if store::update(tx, &found)? {
                Written::Answer(200, shown)
            } else {
                Written::Changed
            })
        }))
    }

    pub(super) async fn cancel(&self, call: Call, id: &str) -> Reply {
        self.once(&call, self.do_cancel(&call, id)).await
    }

    async fn do_cancel(&self, call: &Call, id: &str) -> Result<Write, Problem> {
        let mut found = self.settled_first(&call.who, id).await?;
        found.session.must_be_open()?;
        found.session.status = SessionStatus::Canceled;
        found.session.updated = self.clock.now();
        let shown = render::session(&found.session, &self.config)?;
        Ok(Box::new(move |tx| {
            Ok(if store::update(tx, &found)? {
                Written::Answer(200, shown)
            } else {
                Written::Changed
            })
        }))
    }

    pub(super) async fn delegate(&self, call: Call) -> Reply {
        self.once(&call, self.do_delegate(&call)).await
    }

    async fn do_delegate(&self, call: &Call) -> Result<Write, Problem> {
        let request = DelegateRequest::read(&call.body)?;
        request.check()?;
        let now = self.clock.now();
        request.allowance.check(&self.config.merchant_id, now)?;
        let Some(vault) = &self.vault else {
            return Err(Problem::invalid(
                "unsupported",
                "no payments are delegated here",
            ));
        };
        let key = IdempotencyKey::new(format!(
            "acp.{}",
            Digest::of_json(&(&call.who, &call.key)).map_err(Error::from)?
        ));
        let card = CardToStore::new(&request.payment_method, request.billing_address.clone());
        let stored = vault.store(key.map_err(Error::from)?, card, &request.allowance);
        let vaulted = stored.await.map_err(|error| match error {
            VaultError::Refused => {
                Problem::invalid("invalid_card", "the card is not good").about("$.payment_method")
            }
            VaultError::Unavailable(_) => Problem::later(Duration::from_secs(5)),
        })?;
        let token = self.random("vt_");
        let shown = card::delegated(&token, now, &request);
        let (owner, allowance) = (call.who.clone(), request.allowance);
        Ok(Box::new(move |tx| {
            store::insert_token(tx, &token, &owner, &vaulted, &allowance)?;
            Ok(Written::Answer(201, shown))
        }))
    }
}

/// What the scopes of keys begin with; others keep answers in the same table.
const SCOPE: &str = "acp ";

/// Keys are of whoever asks and of what they ask.
fn scope(call: &Call) -> String {
    format!("{SCOPE}{} {}", call.who, call.path)
}

pub(super) fn wrong(param: &str) -> Problem {
    Problem::invalid("invalid", "not of the required form").about(param)
}

/// Reads a body. What is wrong is said by its place, not by what stood there.
pub(super) fn parse<T: DeserializeOwned>(body: &Value) -> Result<T, Problem> {
    T::deserialize(body).map_err(|_form| wrong("$"))
}

/// Counts items: one that is there twice is two of it.
fn counted(items: &[Item]) -> Result<Vec<(String, u32)>, Problem> {
    if items.is_empty() || items.len() > Seller::ITEMS_MAX {
        return Err(wrong("$.line_items"));
    }
    let mut counted: Vec<(String, u32)> = Vec::new();
    for item in items {
        if item.id.is_empty() || item.id.len() > 256 {
            return Err(wrong("$.line_items"));
        }
        match counted.iter_mut().find(|(id, _)| *id == item.id) {
            Some((_, n)) => *n = n.saturating_add(1),
            None => counted.push((item.id.clone(), 1)),
        }
    }
    Ok(counted)
}
