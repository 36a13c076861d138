//! A seller behind axum on loopback and a buyer, each with a ledger of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Env, Principal, SecretBytes};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::mpp::{
    Challenge, Credential, MppRail, Offer, OfferKey, Order, PaidLayer, PaymentRequest, Purse,
    RailConfig, Server, ServerConfig, Shopper, Wallet,
};
use agent_pay::signed::{SignKey, VerifyKey};
use agent_pay::transport::{Answer, Direct, DirectConfig, Request, Transport};
use agent_pay::{AccountName, Batch, Entry, Guard, Ledger, LedgerExt};
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::routing::any;
use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use tokio::task::JoinSet;

use crate::common::{money, op, path, who};

#[derive(Debug)]
pub(crate) struct Key(pub(crate) String, pub(crate) SigningKey);

impl SignKey for Key {
    fn key_id(&self) -> String {
        self.0.clone()
    }

    fn algorithm(&self) -> &'static str {
        "EdDSA"
    }

    fn sign(&self, message: &[u8]) -> agent_pay::Result<Vec<u8>> {
        Ok(self.1.sign(message).to_bytes().to_vec())
    }
}

#[derive(Debug)]
pub(crate) struct Keys(BTreeMap<String, VerifyingKey>);

impl VerifyKey for Keys {
    fn verify(&self, key_id: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let (Some(key), Ok(signature)) = (self.0.get(key_id), signature.try_into()) else {
            return false;
        };
        algorithm == "EdDSA" && key.verify(message, &signature).is_ok()
    }
}

/// The keys of the test; the peers make the same from the same seeds.
pub(crate) fn key(name: &str) -> Key {
    let seed = match name {
        "agent_buyer" => 2,
        "agent_poor" => 3,
        _ => 4,
    };
    Key(name.to_owned(), SigningKey::from_bytes(&[seed; 32]))
}

pub(crate) fn keys() -> Keys {
    let names = ["agent_buyer", "agent_poor", "agent_watched"];
    let known = names.map(|name| (name.to_owned(), key(name).1.verifying_key()));
    Keys(BTreeMap::from(known))
}

pub(crate) fn account(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

pub(crate) fn secret(byte: u8) -> SecretBytes {
    SecretBytes::new(Box::new(vec![byte; 32]))
}

const SELLING: &str = r#"
[node.shop]
limits = ["1000.00 USD lifetime"]
first_payee = "allow"
approvers = ["human:alice"]
[node."shop/buyers"]
[node."shop/watched"]
alone_up_to = "0.00 USD"
"#;
const BUYING: &str = r#"
[node.acme]
limits = ["100.00 USD lifetime"]
first_payee = "allow"
"#;

/// What the handler does with a request, by its path.
async fn handler(State(shop): State<Arc<Shelf>>, parts: Parts) -> impl IntoResponse {
    shop.n_runs.fetch_add(1, Ordering::SeqCst);
    let has_credential = parts.headers.contains_key("authorization");
    assert!(!has_credential, "a handler saw a credential");
    match parts.uri.path() {
        "/broken" => http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "/missing" => http::StatusCode::NOT_FOUND.into_response(),
        "/stuck" => {
            shop.reached.notify_one();
            std::future::pending().await
        }
        "/slow" => {
            shop.reached.notify_one();
            shop.go_on.notified().await;
            "slowly".into_response()
        }
        "/long" => "x".repeat(600 * 1024).into_response(),
        _ => {
            // Long enough for every copy of a request to be there.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let n = shop.n_runs.load(Ordering::SeqCst);
            ([("x-from", "handler")], format!("run {n}")).into_response()
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) n_runs: AtomicUsize,
    pub(crate) reached: tokio::sync::Notify,
    pub(crate) go_on: tokio::sync::Notify,
}

/// The price of a request.
pub(crate) fn price(parts: &Parts) -> Vec<Offer> {
    match parts.uri.path() {
        "/free" => Vec::new(),
        "/dear" => vec![Offer::Charge(money("60.00 USD"))],
        "/metered" => vec![Offer::session(
            money("0.10 USD"),
            "request",
            money("1.00 USD"),
        )],
        "/both" => vec![
            Offer::Charge(money("0.00001 USD")),
            Offer::session(money("0.10 USD"), "request", money("1.00 USD")),
        ],
        _ => vec![Offer::Charge(money("0.00001 USD"))],
    }
}

pub(crate) async fn store(dir: &std::path::Path, env: &Env) -> Db {
    let config = Config::new(dir.join("pay.db")).with_durability(Durability::Nothing);
    Db::open(config, env).await.unwrap()
}

pub(crate) struct Market {
    pub(crate) env: Env,
    pub(crate) seller: SqliteAuthority,
    pub(crate) server: Server,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) url: String,
    pub(crate) buyer: SqliteAuthority,
    pub(crate) transport: Arc<dyn Transport>,
    serving: JoinSet<()>,
    _dirs: [tempfile::TempDir; 2],
}

impl Market {
    pub(crate) async fn open(env: Env) -> Self {
        let key = OfferKey::new(secret(7)).unwrap();
        Self::open_with(env, key, |config| config.with_refunds()).await
    }

    pub(crate) async fn open_with(
        env: Env,
        offers: OfferKey,
        configure: impl FnOnce(ServerConfig) -> ServerConfig,
    ) -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let seller = authority(&dirs[0], &env, SELLING).await;
        let ledger = SqliteLedger::open(seller.db().clone()).await.unwrap();
        fund(&ledger).await;
        let purse = |node: &str, name: &str| (path(node), account(name));
        let purses = [
            ("agent_buyer", purse("shop/buyers", "purse/buyer")),
            ("agent_poor", purse("shop/buyers", "purse/poor")),
            ("agent_watched", purse("shop/watched", "purse/buyer")),
        ];
        let purses: BTreeMap<Principal, Purse> = purses
            .into_iter()
            .map(|(name, (node, account))| (who(name), Purse::new(node, account)))
            .collect();
        let config = ServerConfig::new(
            "shop.test",
            account("sales"),
            offers,
            Arc::new(keys()),
            Arc::new(purses),
        );
        let config = configure(config);
        let server = Server::open(seller.clone(), env.clone(), config);
        let server = server.await.unwrap();
        let shelf = Arc::new(Shelf::default());
        let app = axum::Router::new()
            .fallback(any(handler))
            .with_state(Arc::clone(&shelf))
            .layer(PaidLayer::new(server.clone(), price));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let buyer = authority(&dirs[1], &env, BUYING).await;
        Self {
            env,
            seller,
            server,
            shelf,
            url,
            buyer,
            transport: Arc::new(Direct::new(DirectConfig::new()).unwrap()),
            serving,
            _dirs: dirs,
        }
    }

    pub(crate) async fn close(mut self) {
        self.serving.shutdown().await;
        self.server.close().await;
        let ledger = SqliteLedger::open(self.seller.db().clone()).await.unwrap();
        ledger.verify(None).await.unwrap();
        for sums in ledger.trial_balance().await.unwrap() {
            assert!(sums.is_balanced());
        }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn runs(&self) -> usize {
        self.shelf.n_runs.load(Ordering::SeqCst)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(get(&self.at(path))).await
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        self.transport.send(request).await.unwrap()
    }

    /// Asks for the price of a path and returns the first offer.
    pub(crate) async fn challenge(&self, path: &str) -> Challenge {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 402);
        challenges(&answer).remove(0)
    }

    /// What the seller was paid, and what is held for it.
    pub(crate) async fn sales(&self) -> (Amount, Amount) {
        let ledger = SqliteLedger::open(self.seller.db().clone()).await.unwrap();
        let sales = ledger.account(Asset::USD, account("sales")).await.unwrap();
        let purse = ledger
            .account(Asset::USD, account("purse/buyer"))
            .await
            .unwrap();
        let paid = sales.credits_posted().minus(sales.debits_posted()).unwrap();
        (paid, purse.debits_pending())
    }

    pub(crate) async fn shopper(&self, transport: Arc<dyn Transport>) -> Shopper {
        let rail = self.rail(transport, RailConfig::new()).await;
        Shopper::new(self.buyer.clone(), rail)
    }

    pub(crate) async fn rail(&self, transport: Arc<dyn Transport>, config: RailConfig) -> MppRail {
        let wallet = Wallet::new(who("agent_buyer"), Arc::new(key("agent_buyer"))).unwrap();
        let (db, env) = (self.buyer.db().clone(), self.env.clone());
        MppRail::open(db, env, transport, wallet, config)
            .await
            .unwrap()
    }
}

async fn authority(dir: &tempfile::TempDir, env: &Env, policy: &str) -> SqliteAuthority {
    let authority = SqliteAuthority::open(store(dir.path(), env).await);
    let authority = authority.await.unwrap();
    let book = policy.parse().unwrap();
    authority.apply(book, who("host")).await.unwrap();
    authority
}

async fn fund(ledger: &SqliteLedger) {
    let guard = Guard::DebitsMustNotExceedCredits;
    let entries = vec![
        Entry::open(Asset::USD, account("bank"), Guard::Unguarded),
        Entry::open(Asset::USD, account("purse/buyer"), guard),
        Entry::open(Asset::USD, account("purse/poor"), guard),
        Entry::open(Asset::USD, account("sales"), guard),
        Entry::post(account("bank"), account("purse/buyer"), money("50.00 USD")),
    ];
    ledger.post(Batch::new(op("setup"), entries)).await.unwrap();
}

pub(crate) fn get(url: &str) -> Request {
    http::Request::get(url).body(Vec::new()).unwrap()
}

pub(crate) fn challenges(answer: &Answer) -> Vec<Challenge> {
    let fields = answer.headers().get_all("www-authenticate");
    let fields = fields.iter().map(|field| field.to_str().unwrap());
    fields
        .flat_map(|field| Challenge::parse_all(field).unwrap())
        .collect()
}

/// Answers a challenge as `name` would.
pub(crate) fn pay(challenge: &Challenge, name: &str) -> Credential {
    let asked = PaymentRequest::decode(&challenge.request).unwrap();
    let order = Order::pay(&challenge.id, &who(name), asked.amount, &asked.recipient);
    let payload = order.payload(&key(name)).unwrap();
    Credential::new(challenge.clone(), Some(name.to_owned()), payload)
}

/// A request with a credential.
pub(crate) fn with(mut request: Request, credential: &Credential) -> Request {
    let field = credential.to_field().unwrap().parse().unwrap();
    request.headers_mut().insert("authorization", field);
    request
}

/// The name of the problem an answer tells of, and whether it is final.
pub(crate) fn problem(answer: &Answer) -> (String, bool) {
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(!answer.headers().contains_key("payment-receipt"));
    assert!(!challenges(answer).is_empty(), "no fresh challenge");
    let details: agent_pay::mpp::ProblemDetails = serde_json::from_slice(answer.body()).unwrap();
    let problem = details.problem().unwrap();
    (problem.code().to_owned(), details.is_final)
}
