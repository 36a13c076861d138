//! A seller is killed with SIGKILL before it takes a payment, after it, and after it answered; the
//! agent comes back with the same request, and every cup is paid once.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests; the child is told what it is by the environment"
)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use crate::acp_shop::{Shop, TOTAL, config, env, pay_with, ready, say};
use crate::common::NOON_MS;
use agent_core::store::{Config, Db};
use agent_core::{Env, IdempotencyKey, ManualClock, Timestamp};
use agent_pay::Ledger;
use agent_pay::acp::{Cart, Charge, Merchant, MerchantError, Quote, Seller, router};
use agent_pay::backend::SqliteLedger;
use agent_pay::rail::Outcome;
use serde_json::{Value, json};

const CHILD: &str = "AGENT_PAY_ACP_CHILD";
const LIFE: &str = "AGENT_PAY_ACP_LIFE";
const UNTIL: &str = "AGENT_PAY_ACP_UNTIL";

/// Says what it does with a payment, and does nothing more at the step it is to be killed at.
#[derive(Debug)]
struct Telling(Shop, String);

impl Telling {
    async fn reach(&self, what: &str) {
        tell(what);
        if self.1 == format!("step {what}") {
            std::future::pending::<()>().await;
        }
    }
}

fn tell(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\nstep {what}").unwrap();
    out.flush().unwrap();
}

#[async_trait::async_trait]
impl Merchant for Telling {
    async fn quote(&self, cart: &Cart) -> Result<Quote, MerchantError> {
        self.0.quote(cart).await
    }

    async fn charge(&self, charge: Charge) -> Outcome {
        self.reach("charging").await;
        let outcome = self.0.charge(charge).await;
        self.reach("charged").await;
        outcome
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        self.0.look_up(id).await
    }
}

/// The shop's books, in a file of their own, as with any real till.
async fn shop(dir: &Path) -> Shop {
    let env = Env::system();
    let config = Config::new(dir.join("bank.db")).with_shared(true);
    let bank = Db::open(config, &env);
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(bank.await.unwrap()).await.unwrap());
    Shop::with_books(ledger).await
}

/// The child: sells until it is killed. Each life begins two minutes after the one before, so that
/// what the last one had in its hands may be done again.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let life: u32 = std::env::var(LIFE).unwrap().parse().unwrap();
    let start = Timestamp::from_unix_ms(NOON_MS + i64::from(life) * 120_000);
    let env = env(&Arc::new(ManualClock::new(start)), u64::from(life));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let db = Db::open(Config::new(Path::new(&dir).join("shop.db")), &env);
        let until = std::env::var(UNTIL).unwrap();
        let merchant = Telling(shop(Path::new(&dir)).await, until);
        let seller = Seller::open(config(), db.await.unwrap(), &env, merchant).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        tell(&format!("at {}", listener.local_addr().unwrap()));
        axum::serve(listener, router(seller.unwrap()))
            .await
            .unwrap();
    });
}

struct Life {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    base: String,
}

impl Life {
    fn start(dir: &Path, life: usize, until: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(CHILD, dir)
            .env(LIFE, life.to_string())
            .env(UNTIL, until)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut life = Self {
            child,
            lines,
            base: String::new(),
        };
        life.base = format!("http://{}", life.wait_for("step at "));
        life
    }

    /// Waits for a line and returns what follows.
    fn wait_for(&mut self, prefix: &str) -> String {
        let lines = self.lines.by_ref().map_while(Result::ok);
        let mut found = lines.filter_map(|line| line.strip_prefix(prefix).map(ToOwned::to_owned));
        found.next().unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_seller_takes_every_payment_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (round, until) in ["step charging", "step charged", ""]
        .into_iter()
        .enumerate()
    {
        let mut life = Life::start(dir.path(), round * 2, until);
        let path = ready(&life.base, &format!("r{round}")).await;
        let (base, complete) = (life.base.clone(), format!("{path}/complete"));
        let mut paying = tokio::task::JoinSet::new();
        paying.spawn(async move {
            // Whether an answer comes depends on when the seller dies.
            let body = pay_with("spt_1");
            let said = say(&base, "POST", &complete, Some("p"), &body).await;
            said.status
        });
        if until.is_empty() {
            assert_eq!(paying.join_next().await.unwrap().unwrap(), 200);
            life.kill();
        } else {
            let life = tokio::task::spawn_blocking(move || {
                life.wait_for(until);
                life
            });
            life.await.unwrap().kill();
            let lost = paying.join_next().await.unwrap();
            assert!(lost.is_err(), "an answer came from a dead seller");
        }
        // It lives again, and the agent repeats its request.
        let life = Life::start(dir.path(), round * 2 + 1, "");
        let complete = format!("{path}/complete");
        let again = say(&life.base, "POST", &complete, Some("p"), &pay_with("spt_1")).await;
        let until_answer = (again.status, &again.body["status"]);
        assert_eq!(
            until_answer,
            (200, &json!("completed")),
            "{until} {}",
            again.body
        );
        assert_eq!(again.is_replayed, until.is_empty(), "{until}");
        paths.push(path);
        for path in &paths {
            let read = say(&life.base, "GET", path, None, &Value::Null).await;
            assert_eq!(read.body["status"], "completed");
        }
        life.kill();
        let taken = shop(dir.path()).await.taken().await;
        assert_eq!(
            taken,
            i128::from(TOTAL) * i128::try_from(round + 1).unwrap(),
            "{until}"
        );
    }
}
