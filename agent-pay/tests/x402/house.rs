//! A house with its own money: a ledger that stands for the chain, a payer, a seller behind HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Asset, Clock, Env, ManualClock, Secret, SeededEntropy, Timestamp};
use agent_pay::backend::SqliteLedger;
use agent_pay::transport::{Answer, Direct, DirectConfig, Transport};
use agent_pay::x402::{
    Address, Atomic, Authorization, Bytes32, Domain, LocalKey, PaymentPayload, Requirements,
    Signed, Signer, Supported, header,
};
use agent_pay::x402::{Facilitator, LedgerFacilitator, Settlement, Verdict};
use agent_pay::x402::{PaidLayer, Sale, Seller, SellerConfig, SettlePolicy};
use agent_pay::{AccountName, Batch, Entry, Guard, Ledger, LedgerExt};
use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::routing::any;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::wire::test_key;

pub(crate) const PRICE: u128 = 1_000;

/// A public test key of the development chain `anvil`; never for money.
pub(crate) const SHOPKEEPER: &str =
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) db: Db,
    pub(crate) ledger: SqliteLedger,
    pub(crate) facilitator: Arc<Moody>,
    pub(crate) key: Arc<LocalKey>,
    /// A payee whose key is at hand.
    pub(crate) shopkeeper: Arc<LocalKey>,
    pub(crate) n_worked: Arc<AtomicU32>,
    n_nonces: AtomicU64,
    servers: Mutex<JoinSet<()>>,
    _dir: tempfile::TempDir,
}

pub(crate) fn domain() -> Domain {
    let token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
        .parse()
        .unwrap();
    Domain::new("USD Coin", "2", 84_532, token)
}

pub(crate) fn payee() -> Address {
    "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
        .parse()
        .unwrap()
}

pub(crate) fn asked() -> Requirements {
    Requirements::new(&domain(), payee(), Atomic::new(PRICE), 60).unwrap()
}

impl House {
    /// Opens a house whose payer has so many smallest units.
    pub(crate) async fn open(funds: i128) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_800_000_000_000)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let env = Env::new(Arc::clone(&shared), Arc::new(SeededEntropy::new(1)));
        let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
        let db = Db::open(config, &env).await.unwrap();
        let ledger = SqliteLedger::open(db.clone()).await.unwrap();
        let key = Arc::new(test_key());
        let payer = LedgerFacilitator::account(&key.address()).unwrap();
        let (bank, guard) = (
            AccountName::new("bank").unwrap(),
            Guard::DebitsMustNotExceedCredits,
        );
        let money = agent_core::Amount::from_units(funds, Asset::USD);
        let entries = vec![
            Entry::open(Asset::USD, bank.clone(), Guard::Unguarded),
            Entry::open(Asset::USD, payer.clone(), guard),
            Entry::post(bank, payer, money),
        ];
        let setup = agent_core::IdempotencyKey::new("setup").unwrap();
        ledger.post(Batch::new(setup, entries)).await.unwrap();
        let inner = LedgerFacilitator::new(Arc::new(ledger.clone()), shared, domain(), Asset::USD);
        let facilitator = Arc::new(Moody {
            inner,
            moods: Mutex::default(),
            n_settles: 0.into(),
        });
        Self {
            clock,
            db,
            ledger,
            facilitator,
            key,
            shopkeeper: Arc::new(LocalKey::new(&Secret::from(SHOPKEEPER)).unwrap()),
            n_worked: Arc::default(),
            n_nonces: 0.into(),
            servers: Mutex::default(),
            _dir: dir,
        }
    }

    pub(crate) async fn seller(&self, config: SellerConfig) -> Seller {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let facilitator: Arc<dyn Facilitator> = Arc::<Moody>::clone(&self.facilitator);
        Seller::open(self.db.clone(), clock, facilitator, config)
            .await
            .unwrap()
    }

    /// A seller that asks the ledger what became of payments.
    pub(crate) async fn sells(&self, sale: Sale) -> Shop {
        let seller = self.seller(config().with_chain(Arc::new(self.facilitator.inner.clone())));
        let seller = seller.await;
        let layer = seller.layer(sale).unwrap();
        self.serve(seller, layer, Work::default()).await
    }

    /// The same of one sale, by a policy.
    pub(crate) async fn sells_by(&self, policy: SettlePolicy) -> Shop {
        self.sells(Sale::new(vec![asked()]).with_policy(policy))
            .await
    }

    /// A seller that tells clients the URL it is really at.
    pub(crate) async fn sells_at_its_own_url(&self, sale: Sale) -> Shop {
        let listener = listener().await;
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = SellerConfig::new(&url).with_chain(Arc::new(self.facilitator.inner.clone()));
        let seller = self.seller(config).await;
        let layer = seller.layer(sale).unwrap();
        self.serve_on(listener, seller, layer, Work::default())
    }

    pub(crate) async fn serve(&self, seller: Seller, layer: PaidLayer, work: Work) -> Shop {
        self.serve_on(listener().await, seller, layer, work)
    }

    /// Serves `/a` and `/b` behind a layer.
    fn serve_on(
        &self,
        listener: TcpListener,
        seller: Seller,
        layer: PaidLayer,
        work: Work,
    ) -> Shop {
        let state = Working {
            work: Arc::new(work),
            n_worked: Arc::clone(&self.n_worked),
        };
        let app = Router::new()
            .route("/a", any(worked))
            .route("/b", any(worked))
            .route_layer(layer)
            .with_state(state.clone());
        let url = format!("http://{}", listener.local_addr().unwrap());
        self.servers.lock().spawn(async move {
            axum::serve(listener, app).await.unwrap();
        });
        let direct = Direct::new(DirectConfig::new()).unwrap();
        Shop {
            url,
            seller,
            direct: Arc::new(direct),
            work: state.work,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().as_unix_ms_u64() / 1_000
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Signs another payment of what is asked.
    pub(crate) async fn payment(&self) -> PaymentPayload {
        let n = self.n_nonces.fetch_add(1, Ordering::Relaxed);
        let mut nonce = [7; 32];
        nonce[..8].copy_from_slice(&n.to_be_bytes());
        self.signed(payee(), Bytes32::from_bytes(nonce)).await
    }

    pub(crate) async fn signed(&self, to: Address, nonce: Bytes32) -> PaymentPayload {
        let times = (self.now() - 600, self.now() + 60);
        let parties = (self.key.address(), to);
        let authorization = Authorization::new(parties, Atomic::new(PRICE), times, nonce);
        let signature = self
            .key
            .sign(domain().digest(&authorization))
            .await
            .unwrap();
        PaymentPayload::new(asked(), Signed::new(authorization, signature))
    }

    /// What the payee has.
    pub(crate) async fn earned(&self) -> i128 {
        self.balance(&payee()).await
    }

    /// What an address has.
    pub(crate) async fn balance(&self, address: &Address) -> i128 {
        let account = LedgerFacilitator::account(address).unwrap();
        let account = self.ledger.account(Asset::USD, account).await;
        account.map_or(0, |account| {
            account
                .credits_posted()
                .minus(account.debits_posted())
                .unwrap()
                .units()
        })
    }

    pub(crate) fn n_worked(&self) -> u32 {
        self.n_worked.load(Ordering::SeqCst)
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) fn config() -> SellerConfig {
    SellerConfig::new("https://api.example/")
}

/// What the work answers, in turn; then 200 for ever.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) statuses: Mutex<Vec<u16>>,
    pub(crate) gate: Option<tokio::sync::Semaphore>,
}

#[derive(Clone)]
struct Working {
    work: Arc<Work>,
    n_worked: Arc<AtomicU32>,
}

async fn worked(State(state): State<Working>, body: String) -> axum::response::Response {
    let n = state.n_worked.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(gate) = &state.work.gate {
        gate.acquire().await.unwrap().forget();
    }
    let status = state.work.statuses.lock().pop().unwrap_or(200);
    http::Response::builder()
        .status(status)
        .header("content-type", "text/plain")
        .header("x-work", n.to_string())
        .header("set-cookie", "session=1")
        .body(axum::body::Body::from(format!("work {n} of {body}")))
        .unwrap()
}

pub(crate) struct Shop {
    pub(crate) url: String,
    pub(crate) seller: Seller,
    pub(crate) direct: Arc<Direct>,
    pub(crate) work: Arc<Work>,
}

impl Shop {
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str, payment: &str) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .body(body.as_bytes().to_vec())
            .unwrap();
        if !payment.is_empty() {
            let json: serde_json::Value = serde_json::from_str(payment).unwrap();
            let version_1 = json["x402Version"] == 1;
            let name = if version_1 {
                header::X_PAYMENT
            } else {
                header::PAYMENT_SIGNATURE
            };
            request
                .headers_mut()
                .insert(name, header::encode(&json).unwrap());
        }
        self.direct.send(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, payment: &PaymentPayload) -> Answer {
        self.send("GET", path, "", &payment.to_json().to_string())
            .await
    }
}

/// What a facilitator does next besides what it should.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// It carries the payment out and its answer is lost.
    Deaf,
    /// It does nothing and says that it does not know.
    Idle,
    /// It does nothing and says a code.
    Refuse(&'static str),
    /// It carries the payment out and says a code.
    Lie(&'static str),
}

/// A facilitator in front of the ledger that has moods, the last first.
#[derive(Debug)]
pub(crate) struct Moody {
    pub(crate) inner: LedgerFacilitator,
    pub(crate) moods: Mutex<Vec<Mood>>,
    pub(crate) n_settles: AtomicU32,
}

#[async_trait]
impl Facilitator for Moody {
    async fn verify(&self, payment: PaymentPayload, asked: Requirements) -> Verdict {
        self.inner.verify(payment, asked).await
    }

    async fn settle(&self, payment: PaymentPayload, asked: Requirements) -> Settlement {
        self.n_settles.fetch_add(1, Ordering::SeqCst);
        let mood = self.moods.lock().pop();
        let settle = self.inner.settle(payment, asked);
        match mood {
            None => settle.await,
            Some(Mood::Deaf) => {
                let _lost = settle.await;
                Settlement::unknown("no answer in time")
            }
            Some(Mood::Idle) => Settlement::unknown("no answer in time"),
            Some(Mood::Refuse(code)) => Settlement::failed(code),
            Some(Mood::Lie(code)) => {
                let _done = settle.await;
                Settlement::failed(code)
            }
        }
    }

    async fn supported(&self) -> agent_pay::Result<Supported> {
        self.inner.supported().await
    }
}
