//! A desk that buys: a buyer under a spend authority, with wires that go wrong.

use std::sync::Arc;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, Clock, Env, Principal, SeededEntropy};
use agent_pay::authority::PolicyBook;
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use agent_pay::x402::Chain;
use agent_pay::x402::Sale;
use agent_pay::x402::{Buyer, BuyerConfig, Fetched, Merchant, Purchase, Token};
use agent_pay::x402::{LocalKey, header};
use agent_pay::{BudgetPath, Budgets};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::house::{House, Shop, asked, domain, payee};

/// What goes wrong on the wire next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    /// The request arrives and its answer is lost.
    LosesAnswer,
    /// The request is lost on the way.
    LosesRequest,
    /// Nothing is sent.
    IsCut,
    /// It works.
    Works,
}

/// A transport that goes wrong, the last first, and counts payments that were sent.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) direct: Direct,
    pub(crate) next: Mutex<Vec<Wire>>,
    pub(crate) payments: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Wires {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let names = [header::PAYMENT_SIGNATURE, header::X_PAYMENT];
        let payment = names.iter().find_map(|name| request.headers().get(name));
        if let Some(payment) = payment {
            self.payments
                .lock()
                .push(payment.to_str().unwrap().to_owned());
        }
        let next = self.next.lock().pop();
        match next.unwrap_or(Wire::Works) {
            Wire::Works => self.direct.send(request).await,
            Wire::LosesAnswer => {
                let _lost = self.direct.send(request).await;
                Err(Lost::may_have_arrived("no answer in time"))
            }
            Wire::LosesRequest => Err(Lost::may_have_arrived("no answer in time")),
            Wire::IsCut => Err(Lost::not_sent("no route")),
        }
    }
}

pub(crate) const POLICY: &str = r#"
[node.acme]
limits = ["0.01 USD lifetime"]
first_payee = "allow"
rails = ["x402"]
payees = ["eip155:84532:*"]
approvers = ["human:alice"]
[node."acme/agent"]
alone_up_to = "0.005 USD"
"#;

pub(crate) struct Desk {
    pub(crate) authority: SqliteAuthority,
    pub(crate) buyer: Buyer,
    pub(crate) wires: Arc<Wires>,
    pub(crate) db: Db,
    pub(crate) _dir: tempfile::TempDir,
}

pub(crate) fn usd(units: i128) -> Amount {
    Amount::from_units(units, Asset::USD)
}

pub(crate) fn token() -> Token {
    Token::new(domain(), 6, usd(5_000)).unwrap()
}

pub(crate) fn env(house: &House, seed: u64) -> Env {
    let clock: Arc<dyn Clock> = Arc::<agent_core::ManualClock>::clone(&house.clock);
    Env::new(clock, Arc::new(SeededEntropy::new(seed)))
}

impl Desk {
    pub(crate) async fn open(house: &House, config: BuyerConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
        let db = Db::open(store, &env(house, 2)).await.unwrap();
        let authority = SqliteAuthority::open(db.clone()).await.unwrap();
        let book: PolicyBook = POLICY.parse().unwrap();
        authority.apply(book, Principal::host()).await.unwrap();
        let direct = Direct::new(DirectConfig::new()).unwrap();
        let wires = Arc::new(Wires {
            direct,
            next: Mutex::default(),
            payments: Mutex::default(),
        });
        let (signer, transport) = (
            Arc::<LocalKey>::clone(&house.key),
            Arc::<Wires>::clone(&wires),
        );
        let buyer = Buyer::open(db.clone(), env(house, 3), transport, signer, config)
            .await
            .unwrap();
        Self {
            authority,
            buyer,
            wires,
            db,
            _dir: dir,
        }
    }

    pub(crate) async fn fetch(&self, key: &str, url: &str) -> agent_pay::Result<Fetched> {
        let request = http::Request::get(url).body(Vec::new()).unwrap();
        let node = BudgetPath::new("acme/agent").unwrap();
        let who = Principal::new("agent_x").unwrap();
        let purchase = Purchase::new(
            agent_core::IdempotencyKey::new(key).unwrap(),
            node,
            who,
            request,
        );
        self.buyer.fetch(&self.authority, purchase).await
    }

    pub(crate) async fn bought(&self, key: &str, url: &str) -> Vec<u8> {
        match self.fetch(key, url).await.unwrap() {
            Fetched::Bought { answer, .. } => Ok(answer.unwrap().into_body()),
            other => Err(other),
        }
        .unwrap()
    }

    /// What is spent and what is held.
    pub(crate) async fn books(&self) -> (i128, i128) {
        let ledger = SqliteLedger::open(self.db.clone()).await.unwrap();
        let balance = Budgets::new(Arc::new(ledger))
            .balance(Asset::USD, BudgetPath::new("acme").unwrap())
            .await
            .unwrap();
        (balance.spent.units(), balance.held.units())
    }

    pub(crate) fn n_signed(&self) -> (usize, usize) {
        let sent = self.wires.payments.lock().clone();
        let different: std::collections::BTreeSet<_> = sent.iter().cloned().collect();
        (sent.len(), different.len())
    }
}

pub(crate) fn merchant(shop: &Shop) -> Merchant {
    Merchant::new(&shop.url, payee(), usd(1_000))
}

pub(crate) async fn market() -> (House, Shop, Desk) {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let chain: Arc<dyn Chain> = Arc::new(house.facilitator.inner.clone());
    let config = BuyerConfig::new(vec![token()])
        .with_merchant(merchant(&shop))
        .with_chain(chain);
    let desk = Desk::open(&house, config).await;
    (house, shop, desk)
}
