//! The official facilitator and server on a real chain, and our server in front of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::Env;
use agent_core::store::{Config, Db, Durability};
use agent_pay::transport::{Direct, DirectConfig, Transport};
use agent_pay::x402::{
    Address, Atomic, BlockTag, Domain, EvmRpc, HttpFacilitator, Requirements, Sale, Seller,
    SellerConfig, SettlePolicy,
};
use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::peer::{self, Peer};
pub(crate) const CHAIN: u64 = 84_532;

/// A chain with a token on it, the official facilitator and the official server.
pub(crate) struct Stack {
    pub(crate) folder: std::path::PathBuf,
    pub(crate) _programs: Peer,
    pub(crate) told: Value,
    pub(crate) direct: Arc<Direct>,
}

impl Stack {
    pub(crate) fn start() -> Option<Self> {
        let folder = peer::folder("X402_PEERS")?;
        let programs = Peer::start(&folder, "node", "x402/stack.mjs");
        let told = serde_json::from_str(&programs.line()).unwrap();
        let direct = Arc::new(Direct::new(DirectConfig::new()).unwrap());
        Some(Self {
            folder,
            _programs: programs,
            told,
            direct,
        })
    }

    pub(crate) fn peer(&self, program: &str, script: &str) -> Peer {
        Peer::start(&self.folder, program, &format!("x402/{script}"))
    }

    pub(crate) fn text(&self, member: &str) -> &str {
        self.told[member].as_str().unwrap()
    }

    pub(crate) fn address(&self, member: &str) -> Address {
        self.text(member).parse().unwrap()
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain::new("USD Coin", "2", CHAIN, self.address("token"))
    }

    pub(crate) fn facilitator(&self) -> Arc<HttpFacilitator> {
        let transport: Arc<dyn Transport> = Arc::<Direct>::clone(&self.direct);
        Arc::new(HttpFacilitator::new(transport, self.text("facilitator")))
    }

    pub(crate) fn chain(&self) -> Arc<EvmRpc> {
        let transport: Arc<dyn Transport> = Arc::<Direct>::clone(&self.direct);
        let rpc = EvmRpc::new(transport, self.text("rpc"), CHAIN);
        Arc::new(rpc.with_tag(BlockTag::Latest))
    }

    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = http::Request::post(self.text("rpc"))
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .unwrap();
        let answer = self.direct.send(request).await.unwrap();
        serde_json::from_slice::<Value>(answer.body()).unwrap()["result"].take()
    }

    /// What somebody has on the chain, in atoms.
    pub(crate) async fn balance(&self, who: &str) -> u128 {
        let who = self.text(who).trim_start_matches("0x").to_lowercase();
        let call = json!([{ "to": self.text("token"), "data": format!("0x70a08231{who:0>64}") }, "latest"]);
        let said = self.rpc("eth_call", call).await;
        u128::from_str_radix(said.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    /// Whether a transaction is on the chain and succeeded.
    pub(crate) async fn succeeded(&self, transaction: &str) -> bool {
        let receipt = self
            .rpc("eth_getTransactionReceipt", json!([transaction]))
            .await;
        receipt["status"] == "0x1"
    }
}

pub(crate) async fn store() -> (Db, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path().join("pay.db")).with_durability(Durability::Nothing);
    (Db::open(config, &Env::system()).await.unwrap(), dir)
}

/// Our server, in front of the official facilitator.
pub(crate) struct Ours {
    pub(crate) url: String,
    pub(crate) n_worked: Arc<AtomicU32>,
    pub(crate) seller: Seller,
    pub(crate) _servers: JoinSet<()>,
    pub(crate) _dir: tempfile::TempDir,
}

pub(crate) async fn ours(stack: &Stack, policy: SettlePolicy) -> Ours {
    let (db, dir) = store().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = SellerConfig::new(&url).with_chain(stack.chain());
    let seller = Seller::open(db, Env::system().clock, stack.facilitator(), config)
        .await
        .unwrap();
    let asked = Requirements::new(
        &stack.domain(),
        stack.address("payee"),
        Atomic::new(1_000),
        60,
    );
    let sale = Sale::new(vec![asked.unwrap()]).with_policy(policy);
    let n_worked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&n_worked);
    let work =
        move || async move { format!("work {}", counted.fetch_add(1, Ordering::SeqCst) + 1) };
    let app = Router::new()
        .route("/work", get(work))
        .route_layer(seller.layer(sale).unwrap());
    let mut servers = JoinSet::new();
    servers.spawn(async move { axum::serve(listener, app).await.unwrap() });
    Ours {
        url: format!("{url}/work"),
        n_worked,
        seller,
        _servers: servers,
        _dir: dir,
    }
}

impl Ours {
    pub(crate) fn n_worked(&self) -> usize {
        self.n_worked.load(Ordering::SeqCst) as usize
    }
}
