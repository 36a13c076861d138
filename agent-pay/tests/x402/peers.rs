//! Both sides against the official SDKs and a real chain, as installed in the folder `X402_PEERS`
//! names: `node` by `npm install --prefix`, `python` by `pip install --target`.

use std::sync::Arc;

use agent_core::{Amount, Asset, Env, IdempotencyKey, Principal};
use agent_pay::authority::PolicyBook;
use agent_pay::backend::{SqliteAuthority, SqliteLedger};
use agent_pay::transport::{Answer, Direct, Lost, Request, Transport};
use agent_pay::x402::{
    Address, Atomic, Buyer, BuyerConfig, Chain, Execution, Facilitator, Fetched, Merchant,
    PaymentPayload, Purchase, Requirements, SettlePolicy, Settlement, Token, header,
};
use agent_pay::{BudgetPath, Budgets};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::peer::Peer;
use crate::stack::{CHAIN, Ours, Stack, ours, store};
use crate::wire::test_key;

async fn ask(mut peer: Peer, line: Value) -> (Peer, Value) {
    // Peers answer when their requests were served, which this runtime does meanwhile.
    tokio::task::spawn_blocking(move || {
        let said = peer.ask(&line);
        (peer, said)
    })
    .await
    .unwrap()
}

/// Whether an answer is paid, by a transaction that is on the chain.
async fn is_paid(stack: &Stack, answer: &Value) -> bool {
    let transaction = answer["transaction"].as_str().unwrap();
    answer["status"] == 200 && answer["success"] == true && stack.succeeded(transaction).await
}

fn with_status(answers: &Value, status: u16) -> usize {
    let answers = answers.as_array().unwrap().iter();
    answers.filter(|answer| answer["status"] == status).count()
}

async fn official_clients_pay(policy: SettlePolicy) {
    let Some(stack) = Stack::start() else { return };
    let ours = ours(&stack, policy).await;
    let (url, token) = (ours.url.clone(), stack.text("token").to_owned());
    let line = |how: &str, n: u32| json!({ "how": how, "url": url, "token": token, "n": n });
    let before = stack.balance("payee").await;
    let so_far = async || (ours.n_worked(), stack.balance("payee").await - before);

    let typescript = stack.peer("node", "pay.mjs");
    let (typescript, paid) = ask(typescript, line("pay", 1)).await;
    assert!(is_paid(&stack, &paid[0]).await);
    let (_python, paid) = ask(stack.peer("python3", "pay.py"), line("pay", 1)).await;
    assert!(is_paid(&stack, &paid).await);
    assert_eq!(so_far().await, (2, 2_000));

    many_payments_at_once(&stack, &ours, typescript).await;
}

async fn many_payments_at_once(stack: &Stack, ours: &Ours, typescript: Peer) {
    let (url, token) = (ours.url.clone(), stack.text("token").to_owned());
    let line = |how: &str, n: u32| json!({ "how": how, "url": url, "token": token, "n": n });
    let (worked, before) = (ours.n_worked(), stack.balance("payee").await);
    let so_far = async || {
        (
            ours.n_worked() - worked,
            stack.balance("payee").await - before,
        )
    };

    // The official middleware runs its handler several times here, and answers 402 later.
    let (typescript, replayed) = ask(typescript, line("replay", 100)).await;
    assert_eq!(with_status(&replayed, 402), 0);
    assert_eq!(replayed[100]["body"], "work 3");
    assert_eq!(so_far().await, (1, 1_000));

    // The official facilitator fails most of these, and cannot say what became of them.
    let (_typescript, paid) = ask(typescript, line("parallel", 20)).await;
    assert_eq!(with_status(&paid, 200), 20);
    ours.seller.close().await;
    assert_eq!(so_far().await, (21, 21_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_pay_our_server_that_settles_first() {
    official_clients_pay(SettlePolicy::SettleFirst).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_pay_our_server_that_works_first() {
    official_clients_pay(SettlePolicy::WorkFirst).await;
}

/// Loses the answers to some payments, after they arrived, and keeps what was sent.
#[derive(Debug)]
struct Lossy {
    direct: Arc<Direct>,
    n_lost: Mutex<u32>,
    payments: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Lossy {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let payment = request.headers().get(header::PAYMENT_SIGNATURE).cloned();
        let answer = self.direct.send(request).await?;
        let Some(payment) = payment else {
            return Ok(answer);
        };
        self.payments
            .lock()
            .push(payment.to_str().unwrap().to_owned());
        let mut n_lost = self.n_lost.lock();
        if *n_lost == 0 {
            return Ok(answer);
        }
        *n_lost -= 1;
        Err(Lost::may_have_arrived("no answer in time"))
    }
}

const POLICY: &str = "[node.acme]\nlimits = [\"0.003 USD lifetime\"]\nfirst_payee = \"allow\"";

/// The official server answers 402 to a payment that is sent again; its chain says that it is paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_pays_the_official_server() {
    let Some(stack) = Stack::start() else { return };
    let before = stack.balance("payee").await;
    let (db, _dir) = store().await;
    let authority = SqliteAuthority::open(db.clone()).await.unwrap();
    let book: PolicyBook = POLICY.parse().unwrap();
    authority.apply(book, Principal::host()).await.unwrap();
    let lossy = Arc::new(Lossy {
        direct: Arc::clone(&stack.direct),
        n_lost: Mutex::new(0),
        payments: Mutex::default(),
    });
    let usd = |units| Amount::from_units(units, Asset::USD);
    let shop = stack.text("shop");
    let config = BuyerConfig::new(vec![Token::new(stack.domain(), 6, usd(5_000)).unwrap()])
        .with_merchant(Merchant::new(shop, stack.address("payee"), usd(1_000)))
        .with_chain(stack.chain());
    let transport: Arc<dyn Transport> = Arc::<Lossy>::clone(&lossy);
    let key = Arc::new(test_key());
    let buyer = Buyer::open(db.clone(), Env::system(), transport, key, config)
        .await
        .unwrap();
    let fetch = async |id: &str| {
        let request = http::Request::get(format!("{shop}/weather"))
            .body(Vec::new())
            .unwrap();
        let node = BudgetPath::new("acme").unwrap();
        let id = IdempotencyKey::new(id).unwrap();
        let purchase = Purchase::new(id, node, Principal::new("agent_x").unwrap(), request);
        buyer.fetch(&authority, purchase).await.unwrap()
    };
    let fetched = fetch("k1").await;
    let Fetched::Bought {
        answer: Some(answer),
        ..
    } = &fetched
    else {
        assert!(matches!(fetched, Fetched::Bought { .. }), "{fetched:?}");
        return;
    };
    assert!(String::from_utf8_lossy(answer.body()).contains("fair"));
    assert_eq!(stack.balance("payee").await - before, 1_000);

    *lossy.n_lost.lock() = 1;
    assert!(matches!(fetch("k2").await, Fetched::Unknown { .. }));
    // Sent again with the same nonce, refused with 402, and found on the chain: paid once.
    assert_eq!(buyer.payer(&authority).reconcile(10).await.unwrap(), 1);
    assert!(matches!(
        fetch("k2").await,
        Fetched::Bought { answer: None, .. }
    ));
    assert!(matches!(
        fetch("k3").await,
        Fetched::Bought {
            answer: Some(_),
            ..
        }
    ));
    assert!(matches!(fetch("k4").await, Fetched::Denied(refusal) if refusal.code == "over_limit"));
    let sent = lossy.payments.lock().clone();
    let nonces: std::collections::BTreeSet<_> = sent.iter().cloned().collect();
    assert_eq!(nonces.len(), 3, "one signature for each of three purchases");
    assert_eq!(stack.balance("payee").await - before, 3_000);
    let budgets = Budgets::new(Arc::new(SqliteLedger::open(db).await.unwrap()));
    let balance = budgets
        .balance(Asset::USD, BudgetPath::new("acme").unwrap())
        .await
        .unwrap();
    assert_eq!((balance.spent, balance.held), (usd(3_000), usd(0)));
}

/// The official facilitator settles one of five in parallel and calls the others failed; through our
/// client none is failed, and the chain says the same of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_settlement_of_the_official_facilitator_is_taken_for_failed_that_is_not() {
    let Some(stack) = Stack::start() else { return };
    let facilitator = stack.facilitator();
    let supported = facilitator.supported().await.unwrap();
    assert!(
        supported
            .kinds
            .iter()
            .any(|kind| kind.network == format!("eip155:{CHAIN}"))
    );
    let payee = stack.address("payee");
    let asked = Requirements::new(&stack.domain(), payee, Atomic::new(1_000), 60).unwrap();
    let signed = |value, nonce| signed(&stack, payee, Atomic::new(value), nonce);
    let payment = PaymentPayload::new(asked.clone(), signed(1_000, 1).await);
    let mut settles = JoinSet::new();
    for _ in 0..5 {
        let (facilitator, payment, asked) =
            (Arc::clone(&facilitator), payment.clone(), asked.clone());
        settles.spawn(async move { facilitator.settle(payment, asked).await });
    }
    let mut n_settled = 0;
    while let Some(settlement) = settles.join_next().await {
        match settlement.unwrap() {
            Settlement::Settled { .. } => n_settled += 1,
            other => assert!(matches!(other, Settlement::Unknown { .. }), "{other:?}"),
        }
    }
    assert_eq!(n_settled, 1);
    let later = facilitator.settle(payment.clone(), asked.clone()).await;
    assert!(matches!(later, Settlement::Unknown { .. }), "{later:?}");
    let chain = stack.chain();
    let look_up = async |payment: &PaymentPayload| {
        let authorization = payment.signed.authorization.clone();
        chain.look_up(stack.domain(), authorization).await.unwrap()
    };
    assert!(matches!(
        look_up(&payment).await,
        Execution::Executed { .. }
    ));
    assert_eq!(stack.balance("payee").await, 1_000);

    // A nonce that went to another payment is no payment of this one.
    let mut other = payment.clone();
    other.signed = signed(1_001, 1).await;
    assert!(matches!(look_up(&other).await, Execution::Never { .. }));
    // What is not carried out may be yet, until its time is over.
    let late = PaymentPayload::new(asked.clone(), signed(1_000, 2).await);
    assert_eq!(look_up(&late).await, Execution::NotYet);
    stack.rpc("evm_increaseTime", json!([61])).await;
    stack.rpc("evm_mine", json!([])).await;
    assert!(matches!(look_up(&late).await, Execution::Never { .. }));

    // Altered requirements are refused before the chain.
    for (member, value) in [
        ("amount", json!("1")),
        ("payTo", json!(stack.text("payer"))),
    ] {
        let mut raw = asked.raw().clone();
        raw[member] = value;
        let asked = Requirements::read(raw).unwrap();
        let payment = PaymentPayload::new(asked.clone(), signed(1_000, 3).await);
        let settlement = facilitator.settle(payment, asked).await;
        assert!(
            matches!(settlement, Settlement::Failed { .. }),
            "{settlement:?}"
        );
    }
}

async fn signed(stack: &Stack, to: Address, value: Atomic, nonce: u8) -> agent_pay::x402::Signed {
    use agent_pay::x402::{Authorization, Bytes32, Signed, Signer};
    let key = test_key();
    let now = Env::system().clock.now().as_unix_ms_u64() / 1_000;
    let parties = (key.address(), to);
    let nonce = Bytes32::from_bytes([nonce; 32]);
    let authorization = Authorization::new(parties, value, (now - 600, now + 60), nonce);
    let signature = key
        .sign(stack.domain().digest(&authorization))
        .await
        .unwrap();
    Signed::new(authorization, signature)
}

#[test]
#[should_panic(expected = "hangs.sh said nothing")]
fn a_peer_that_hangs_fails_its_test() {
    let peer = Peer::start(std::path::Path::new("/"), "sh", "hangs.sh");
    peer.with_silence_max(std::time::Duration::from_millis(50))
        .line();
}
