//! A shop that is real but small: a catalogue, stock, tax by state, two ways to send, and a till that
//! keeps its books in a ledger of ours. And a server for it.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared by tests that each use a part of it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    Asset, Clock, Env, IdempotencyKey, ManualClock, Secret, SeededEntropy, Timestamp,
};
use agent_pay::acp::{
    Allowance, CardToStore, Cart, Charge, FulfillmentKind, FulfillmentOption, Merchant,
    MerchantError, Note, Quote, QuotedLine, Seller, SellerConfig, VERSION, Vault, VaultError,
    router,
};
use agent_pay::backend::InMemoryLedger;
use agent_pay::rail::{Internal, Outcome, Payment, Rail};
use agent_pay::transport::{Direct, DirectConfig, Transport};
use agent_pay::{AccountName, Batch, Entry, Guard, Ledger, LedgerExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::{NOON_MS, money, op};

/// Taken by the till: tokens that pay, one that never does, one whose answer is lost.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    till: Arc<Internal>,
    ledger: Arc<dyn Ledger>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    charges: Vec<(String, String)>,
    vaulted: BTreeMap<String, String>,
    is_away: bool,
    is_losing: bool,
}

impl Shop {
    pub(crate) async fn new() -> Self {
        Self::with_books(Arc::new(InMemoryLedger::new(&Env::system()))).await
    }

    /// A shop whose books are kept in a ledger that may have them already.
    pub(crate) async fn with_books(ledger: Arc<dyn Ledger>) -> Self {
        let (usd, name) = (cents(), |text: &str| AccountName::new(text).unwrap());
        let guard = Guard::DebitsMustNotExceedCredits;
        let entries = vec![
            Entry::open(usd, name("bank"), Guard::Unguarded),
            Entry::open(usd, name("buyers"), guard),
            Entry::open(usd, name("shop"), guard),
            Entry::post(name("bank"), name("buyers"), money("100000 USD/2")),
        ];
        ledger.post(Batch::new(op("setup"), entries)).await.unwrap();
        Self {
            till: Arc::new(Internal::new(Arc::clone(&ledger), name("buyers"))),
            ledger,
            state: Arc::default(),
        }
    }

    /// Cents the shop took.
    pub(crate) async fn taken(&self) -> i128 {
        let name = AccountName::new("shop").unwrap();
        let shop = self.ledger.account(cents(), name).await.unwrap();
        shop.credits_posted().units()
    }

    /// The ids and tokens of all charges that were tried.
    pub(crate) fn charges(&self) -> Vec<(String, String)> {
        self.state.lock().charges.clone()
    }

    /// Takes payments and loses its answers from here on.
    pub(crate) fn lose_answers(&self) {
        self.state.lock().is_losing = true;
    }

    /// Lets no payment be looked up, or lets it again.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.state.lock().is_away = is_away;
    }

    pub(crate) fn vaulted(&self) -> BTreeMap<String, String> {
        self.state.lock().vaulted.clone()
    }
}

pub(crate) fn cents() -> Asset {
    Asset::new("USD", 2).unwrap()
}

#[async_trait::async_trait]
impl Merchant for Shop {
    async fn quote(&self, cart: &Cart) -> Result<Quote, MerchantError> {
        if self.state.lock().is_away {
            return Err(MerchantError::new(Duration::from_secs(3), "away"));
        }
        let mut quote = Quote::new();
        let mut taxed = 0;
        for (n, (id, quantity)) in cart.items.iter().enumerate() {
            let (title, price, stock) = match id.as_str() {
                "tea" => ("Tea, 100 g", 990, 5),
                "cup" => ("A cup", 1_500, 100),
                _ => {
                    let about = format!("$.line_items[{n}]");
                    quote = quote.with_note(Note::error("not_found", about, "it is not sold here"));
                    continue;
                }
            };
            if *quantity > stock {
                let about = format!("$.line_items[{n}]");
                quote =
                    quote.with_note(Note::error("out_of_stock", about, "there are not so many"));
            }
            taxed += price * i64::from(*quantity);
            quote = quote.with_line(QuotedLine::new(id, title, *quantity, price));
        }
        let address = cart.details.as_ref().and_then(|d| d.address.as_ref());
        let is_taxed = address.is_some_and(|a| a.state == "CA");
        let tax = if is_taxed { taxed * 725 / 10_000 } else { 0 };
        let slow = FulfillmentOption::new("slow", FulfillmentKind::Shipping, "By post", 500);
        let fast = FulfillmentOption::new("fast", FulfillmentKind::Shipping, "By air", 1_200);
        let note = Note::info("We are closed on Sundays");
        Ok(quote
            .with_option(slow)
            .with_option(fast)
            .with_tax(tax)
            .with_note(note))
    }

    async fn charge(&self, charge: Charge) -> Outcome {
        let token = charge.credential.token.clone();
        let id = charge.id.as_str().to_owned();
        self.state.lock().charges.push((id, token.clone()));
        if token.contains("declined") {
            // The id is used up at the till too.
            return self.till.look_up(charge.id).await;
        }
        let payment = Payment::new(charge.id, "shop", charge.amount);
        let outcome = self.till.pay(payment).await;
        if token.contains("lost") || self.state.lock().is_losing {
            return Outcome::unknown(Duration::from_secs(7), "the till did not answer");
        }
        outcome
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        if self.state.lock().is_away {
            return Outcome::unknown(Duration::from_secs(7), "the till does not answer");
        }
        self.till.look_up(id).await
    }
}

#[async_trait::async_trait]
impl Vault for Shop {
    async fn store(
        &self,
        key: IdempotencyKey,
        card: CardToStore,
        _allowance: &Allowance,
    ) -> Result<String, VaultError> {
        let card: Value =
            serde_json::from_str(card.expose()).map_err(|_form| VaultError::Refused)?;
        if card["number"] == "4000000000000002" {
            return Err(VaultError::Refused);
        }
        let mut state = self.state.lock();
        let n = state.vaulted.len();
        let name = state.vaulted.entry(key.as_str().to_owned());
        Ok(name.or_insert_with(|| format!("pm_vaulted{n}")).clone())
    }

    async fn forget(&self, vaulted: &str) -> Result<(), VaultError> {
        let mut state = self.state.lock();
        if state.is_away {
            return Err(VaultError::Unavailable("the vault is closed".into()));
        }
        state.vaulted.retain(|_, name| name != vaulted);
        Ok(())
    }
}

/// What a seller runs on; dropping it ends the server.
pub(crate) struct Served {
    pub(crate) shop: Shop,
    pub(crate) seller: Seller,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) base: String,
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) db: Db,
    server: JoinSet<()>,
}

pub(crate) fn config() -> SellerConfig {
    let handler = json!({
        "id": "card_tokenized", "name": "dev.acp.tokenized.card", "version": "2026-01-22",
        "spec": "https://example.com/spec", "requires_delegate_payment": true,
        "requires_pci_compliance": false, "psp": "example",
        "config_schema": "https://example.com/config",
        "instrument_schemas": ["https://example.com/instrument"], "config": {},
    });
    SellerConfig::new(
        "shop",
        "https://shop.example.com/orders/",
        Secret::from("digest"),
    )
    .with_agent("agent_a", Secret::from("bearer_a"))
    .with_agent("agent_b", Secret::from("bearer_b"))
    .with_handler(handler)
    .with_link("terms_of_use", "https://shop.example.com/terms")
}

pub(crate) fn env(clock: &Arc<ManualClock>, seed: u64) -> Env {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Env::new(clock, Arc::new(SeededEntropy::new(seed)))
}

impl Served {
    pub(crate) async fn open() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(NOON_MS)));
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start(Shop::new().await, clock, dir, 1).await
    }

    async fn start(
        shop: Shop,
        clock: Arc<ManualClock>,
        dir: Arc<tempfile::TempDir>,
        seed: u64,
    ) -> Self {
        let env = env(&clock, seed);
        let stored = Config::new(dir.path().join("shop.db")).with_durability(Durability::Nothing);
        let db = Db::open(stored, &env).await.unwrap();
        let opened = Seller::open(config(), db.clone(), &env, shop.clone()).await;
        let seller = opened.unwrap().with_vault(shop.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (mut server, routes) = (JoinSet::new(), router(seller.clone()));
        server.spawn(async move {
            let _ended = axum::serve(listener, routes).await;
        });
        Self {
            shop,
            seller,
            clock,
            base,
            dir,
            db,
            server,
        }
    }

    /// Ends the server and the store in the middle of whatever they do, and starts them again.
    pub(crate) async fn restart(mut self) -> Self {
        self.server.shutdown().await;
        self.db.close().await;
        let Self {
            shop, clock, dir, ..
        } = self;
        Self::start(shop, clock, dir, 2).await
    }
}

/// An answer as it came.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) is_replayed: bool,
    pub(crate) retry_after: Option<u64>,
}

/// Sends a request as agent A.
pub(crate) async fn say(
    base: &str,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> Said {
    say_as("bearer_a", base, method, path, key, body).await
}

pub(crate) async fn say_as(
    bearer: &str,
    base: &str,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> Said {
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header("authorization", format!("Bearer {bearer}"))
        .header("api-version", VERSION)
        .header("content-type", "application/json")
        .header("request-id", "r-1");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let bytes = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let direct = Direct::new(DirectConfig::new()).unwrap();
    let answer = direct.send(request.body(bytes).unwrap()).await.unwrap();
    let text = |name: &str| {
        answer
            .headers()
            .get(name)
            .map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(text("request-id").as_deref(), Some("r-1"));
    assert_eq!(text("idempotency-key").as_deref(), key);
    Said {
        status: answer.status().as_u16(),
        body: serde_json::from_slice(answer.body()).unwrap_or_default(),
        is_replayed: text("idempotent-replayed").as_deref() == Some("true"),
        retry_after: text("retry-after").map(|s| s.parse().unwrap()),
    }
}

pub(crate) fn cart(items: &[&str]) -> Value {
    let items: Vec<Value> = items.iter().map(|id| json!({ "id": id })).collect();
    json!({ "line_items": items, "currency": "usd", "capabilities": {} })
}

pub(crate) fn to_california() -> Value {
    json!({
        "fulfillment_details": { "address": {
            "name": "A", "line_one": "1 Street", "city": "San Francisco", "state": "CA",
            "country": "US", "postal_code": "94102" } },
        "selected_fulfillment_options": [
            { "type": "shipping", "option_id": "slow", "item_ids": ["li_tea"] } ],
    })
}

pub(crate) fn pay_with(token: &str) -> Value {
    json!({ "payment_data": { "handler_id": "card_tokenized",
        "instrument": { "type": "card", "credential": { "type": "spt", "token": token } } } })
}

/// A session that can be paid: two teas to California, 2 × 9.90 + 1.43 tax + 5.00 by post.
pub(crate) const TOTAL: i64 = 1_980 + 143 + 500;

pub(crate) async fn ready(base: &str, name: &str) -> String {
    let made = say(
        base,
        "POST",
        "/checkout_sessions",
        Some(&format!("c-{name}")),
        &cart(&["tea", "tea"]),
    )
    .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = format!("/checkout_sessions/{}", made.body["id"].as_str().unwrap());
    let ready = say(
        base,
        "POST",
        &path,
        Some(&format!("u-{name}")),
        &to_california(),
    )
    .await;
    assert_eq!(
        (ready.status, &ready.body["status"]),
        (200, &json!("ready_for_payment")),
        "{}",
        ready.body
    );
    path
}

pub(crate) fn total(body: &Value) -> i64 {
    let totals = body["totals"].as_array().unwrap();
    totals.iter().find(|t| t["type"] == "total").unwrap()["amount"]
        .as_i64()
        .unwrap()
}
