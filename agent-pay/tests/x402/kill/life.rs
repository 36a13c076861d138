//! Processes that buy and sell until they are killed, and the stores they leave behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    Amount, Asset, Clock, Env, IdempotencyKey, ManualClock, Principal, Secret, Timestamp,
};
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::rail::Payer;
use agent_pay::transport::{Direct, DirectConfig};
use agent_pay::x402::{
    Atomic, Buyer, BuyerConfig, CanonicalKey, Chain, Fetched, LedgerFacilitator, LocalKey,
    Merchant, PayBack, Purchase, Requirements, Sale, Seller, SellerConfig, SettlePolicy, Signer,
};
use agent_pay::{AccountName, Batch, BudgetPath, Budgets, Entry, Guard, Ledger};
use axum::extract::State;
use axum::routing::get;
use parking_lot::Mutex;

use super::stop::{Stop, Stopping, TakesBack, say};
use crate::desk::{POLICY, token, usd};
use crate::house::{PRICE, SHOPKEEPER, domain};
use crate::peer::SILENCE_MAX;
use crate::wire::test_key;

const ROLE: &str = "AGENT_PAY_X402_ROLE";
const DIR: &str = "AGENT_PAY_X402_DIR";
const AT: &str = "AGENT_PAY_X402_AT";
const SECONDS: &str = "AGENT_PAY_X402_SECONDS";
const PORT: &str = "AGENT_PAY_X402_PORT";
/// Thirty seconds of them.
const N_BINDS: u32 = 300;

pub(super) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

pub(super) fn shopkeeper() -> LocalKey {
    LocalKey::new(&Secret::from(SHOPKEEPER)).unwrap()
}

/// Where the seller of a directory sells.
pub(super) fn url(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("url")).unwrap()
}

/// The port it sold at.
pub(super) fn port(dir: &Path) -> u16 {
    let uri: http::Uri = url(dir).parse().unwrap();
    uri.port_u16().unwrap()
}

/// The names of the traces that were left with a beginning.
pub(super) fn traces(dir: &Path, beginning: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(beginning)).collect()
}

/// An hour of a life, so many seconds after the first, and chance of its own.
fn env(seconds: u64) -> Env {
    let start = 1_800_000_000_000 + i64::try_from(seconds).unwrap() * 1_000;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_unix_ms(start)));
    let entropy = Env::system().entropy;
    Env::new(clock, entropy)
}

async fn db(dir: &Path, name: &str, env: &Env) -> Db {
    let config = Config::new(dir.join(name)).with_durability(Durability::Nothing);
    Db::open(config.with_shared(true), env).await.unwrap()
}

/// What stands for the chain: a ledger in a file of its own, which no crash of ours touches.
pub(super) async fn chain(dir: &Path, seconds: u64) -> (SqliteLedger, LedgerFacilitator) {
    let env = env(seconds);
    let ledger = SqliteLedger::open(db(dir, "chain.db", &env).await)
        .await
        .unwrap();
    let (bank, payer) = (
        AccountName::new("bank").unwrap(),
        LedgerFacilitator::account(&test_key().address()).unwrap(),
    );
    let entries = vec![
        Entry::open(Asset::USD, bank.clone(), Guard::Unguarded),
        Entry::open(Asset::USD, payer.clone(), Guard::DebitsMustNotExceedCredits),
        Entry::post(bank, payer, usd(100_000)),
    ];
    ledger
        .post(Batch::new(key("setup"), entries))
        .await
        .unwrap();
    let shared: Arc<dyn Ledger> = Arc::new(ledger.clone());
    let facilitator = LedgerFacilitator::new(shared, env.clock, domain(), Asset::USD);
    (ledger, facilitator)
}

/// The side that buys: its store and its keys.
pub(super) struct Purse {
    pub(super) authority: SqliteAuthority,
    buyer: Buyer,
    db: Db,
    url: String,
}

impl Purse {
    /// Opens it; one with a stop stops there.
    pub(super) async fn open(dir: &Path, seconds: u64, stop: Option<Arc<Stop>>) -> Self {
        let env = env(seconds);
        let db = db(dir, "pay.db", &env).await;
        let authority = SqliteAuthority::open(db.clone()).await.unwrap();
        let applied = authority.apply(POLICY.parse().unwrap(), Principal::host());
        applied.await.unwrap();
        let (_ledger, facilitator) = chain(dir, seconds).await;
        let chain: Arc<dyn Chain> = Arc::new(facilitator.clone());
        let merchant = Merchant::new(&url(dir), shopkeeper().address(), usd(1_000));
        let config = BuyerConfig::new(vec![token()])
            .with_merchant(merchant)
            .with_chain(Arc::clone(&chain));
        let stop = stop.unwrap_or_else(|| Arc::new(Stop::new(dir, String::new())));
        let facilitator = Arc::new(Stopping(facilitator, Arc::clone(&stop)));
        let keeper: Arc<dyn Signer> = Arc::new(Stopping(shopkeeper(), Arc::clone(&stop)));
        let back = PayBack::open(db.clone(), env.clone(), keeper, facilitator, chain);
        let config = config.with_refunds(Arc::new(back.await.unwrap()));
        let direct = Direct::new(DirectConfig::new()).unwrap();
        let transport = Arc::new(Stopping(direct, Arc::clone(&stop)));
        let signer = Arc::new(Stopping(test_key(), stop));
        let buyer = Buyer::open(db.clone(), env, transport, signer, config);
        Self {
            authority,
            buyer: buyer.await.unwrap(),
            db,
            url: url(dir),
        }
    }

    pub(super) fn payer(&self) -> Payer {
        self.buyer.payer(&self.authority)
    }

    pub(super) async fn fetch(&self) -> agent_pay::Result<Fetched> {
        let request = http::Request::get(&self.url).body(Vec::new()).unwrap();
        let node = BudgetPath::new("acme/agent").unwrap();
        let who = Principal::new("agent_x").unwrap();
        let purchase = Purchase::new(key("k1"), node, who, request);
        self.buyer.fetch(&self.authority, purchase).await
    }

    pub(super) async fn balance(&self) -> (i128, i128) {
        let ledger = SqliteLedger::open(self.db.clone()).await.unwrap();
        ledger.verify(None).await.unwrap();
        let budgets = Budgets::new(Arc::new(ledger));
        let acme = BudgetPath::new("acme").unwrap();
        let balance = budgets.balance(Asset::USD, acme).await.unwrap();
        let units = |amount: Amount| amount.units();
        (units(balance.spent), units(balance.held))
    }

    pub(super) async fn close(self) {
        self.db.close().await;
    }
}

/// The child: buys, gives back, or sells, until it is killed.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let said = |name: &str| std::env::var(name).unwrap();
    let (dir, seconds) = (said(DIR), said(SECONDS).parse().unwrap());
    let dir = Path::new(&dir);
    let stop = Arc::new(Stop::new(dir, said(AT)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        match role.as_str() {
            "buy" => {
                let purse = Purse::open(dir, seconds, Some(stop)).await;
                let _stopped = purse.fetch().await;
            }
            "refund" => {
                let purse = Purse::open(dir, seconds, Some(stop)).await;
                let payer = purse.payer();
                let _stopped = payer.refund(key("k1"), key("r1"), usd(400)).await;
            }
            policy => sell(dir, seconds, policy, said(PORT).parse().unwrap(), stop).await,
        }
    });
}

async fn sell(dir: &Path, seconds: u64, policy: &str, port: u16, stop: Arc<Stop>) {
    let listener = listener(port).await;
    let url = format!("http://{}", listener.local_addr().unwrap());
    let policy = match policy {
        "work first" => SettlePolicy::WorkFirst,
        _ => SettlePolicy::SettleFirst,
    };
    let (seller, app) = shop(dir, seconds, policy, &url, stop).await;
    seller.reconcile(100).await.unwrap();
    std::fs::write(dir.join("url"), format!("{url}/a")).unwrap();
    say("sells");
    axum::serve(listener, app).await.unwrap();
}

/// Binds a port again. Somebody's connection may have it for a while, since it was any port at first.
async fn listener(port: u16) -> tokio::net::TcpListener {
    for _ in 1..N_BINDS {
        match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return listener,
            Err(_taken) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let last = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    last.unwrap()
}

/// What is asked for: payments hold for ten minutes.
pub(super) fn asked() -> Requirements {
    let payee = shopkeeper().address();
    Requirements::new(&domain(), payee, Atomic::new(PRICE), 600).unwrap()
}

/// A seller and what it sells, at `/a`.
pub(super) async fn shop(
    dir: &Path,
    seconds: u64,
    policy: SettlePolicy,
    url: &str,
    stop: Arc<Stop>,
) -> (Seller, axum::Router) {
    let env = env(seconds);
    let (_ledger, facilitator) = chain(dir, seconds).await;
    let config = SellerConfig::new(url)
        .with_chain(Arc::new(facilitator.clone()))
        .with_undo(Arc::new(TakesBack(Arc::clone(&stop))));
    let facilitator = Arc::new(Stopping(facilitator, Arc::clone(&stop)));
    let db = db(dir, "shop.db", &env).await;
    let seller = Seller::open(db, env.clock, facilitator, config);
    let seller = seller.await.unwrap();
    let sale = Sale::new(vec![asked()]).with_policy(policy);
    let layer = seller.layer(sale).unwrap();
    let app = axum::Router::new()
        .route("/a", get(worked))
        .route_layer(layer)
        .with_state(stop);
    (seller, app)
}

async fn worked(
    State(stop): State<Arc<Stop>>,
    axum::Extension(payment): axum::Extension<CanonicalKey>,
) -> &'static str {
    stop.trace("run");
    stop.reach("work").await;
    stop.mark(&format!("effect-{}", payment.as_str()));
    stop.reach("worked").await;
    "work"
}

/// A child that lives until it is killed.
pub(super) struct Life {
    child: Child,
    /// Locked, since a receiver is of one thread.
    lines: Mutex<Receiver<String>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Life {
    fn start(dir: &Path, seconds: u64, role: &str, at: &str, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::life::child", "--nocapture"])
            .env(ROLE, role)
            .env(DIR, dir)
            .env(SECONDS, seconds.to_string())
            .env(AT, at)
            .env(PORT, port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (told, lines) = sync_channel(64);
        // It ends with the child, which `Drop` ends.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        let lines = Mutex::new(lines);
        Self { child, lines }
    }

    /// Sells on a port, any for 0, and is ready.
    pub(super) fn sell(dir: &Path, seconds: u64, port: u16, policy: &str, at: &str) -> Self {
        let life = Self::start_selling(dir, seconds, port, policy, at);
        life.wait_for("sells");
        life
    }

    /// Begins to sell, and may die before it is ready.
    pub(super) fn start_selling(
        dir: &Path,
        seconds: u64,
        port: u16,
        policy: &str,
        at: &str,
    ) -> Self {
        Self::start(dir, seconds, policy, at, port)
    }

    /// Does what a buyer does: `buy` or `refund`.
    pub(super) fn buy(dir: &Path, role: &str, at: &str) -> Self {
        Self::start(dir, 0, role, at, 0)
    }

    fn wait_for(&self, point: &str) {
        let lines = self.lines.lock();
        let said = format!("step {point}");
        let mut heard = std::iter::from_fn(|| lines.recv_timeout(SILENCE_MAX).ok());
        assert!(heard.any(|line| line == said), "{point} was not reached");
    }

    /// Is killed when it says that it is at a point.
    pub(super) fn dies_at(self, point: &str) {
        self.wait_for(point);
        self.dies();
    }

    pub(super) fn dies(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
