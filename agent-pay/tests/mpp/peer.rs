//! The official implementation for JavaScript, mppx 0.11.0, on the other side. `MPPX` names the
//! folder that has it in its `node_modules`; without it these tests are skipped.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agent_core::Env;
use agent_pay::mpp::Fetched;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::buyer::intent;
use crate::common::money;
use crate::market::{Market, get};

/// Copies the programs of the peer to where its packages are, and returns how to run one of them.
fn peer(name: &str) -> Option<(tempfile::TempDir, Command)> {
    let Some(installed) = std::env::var_os("MPPX").map(PathBuf::from) else {
        println!("SKIPPED {name}: MPPX names no folder with mppx");
        return None;
    };
    let dir = tempfile::tempdir_in(installed).unwrap();
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers/mpp");
    for program in ["ledger.mjs", "pay.mjs", "sell.mjs"] {
        std::fs::copy(from.join(program), dir.path().join(program)).unwrap();
    }
    let mut command = Command::new("node");
    command.arg(dir.path().join(name)).kill_on_drop(true);
    Some((dir, command))
}

/// A peer that hangs fails its test, and ends with it.
async fn in_time<F: Future>(said: F) -> F::Output {
    let said = tokio::time::timeout(Duration::from_secs(90), said).await;
    said.expect("the peer says nothing")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_pays_our_server_once_for_a_credential() {
    let Some((_dir, mut command)) = peer("pay.mjs") else {
        return;
    };
    let market = Market::open(Env::system()).await;
    let output = in_time(command.arg(market.at("/tea")).output())
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let seen: Value = serde_json::from_slice(&output.stdout).expect(&errors);
    assert_eq!(seen["priced"][0], 402);
    assert_eq!(seen["priced"][1], "no-store");
    assert_eq!(
        seen["priced"][2],
        "https://paymentauth.org/problems/payment-required"
    );
    assert_eq!(seen["paid"], serde_json::json!([200, "run 1", "private"]));
    assert_eq!(seen["receipt"]["method"], "ledger");
    assert_eq!(seen["posted"], serde_json::json!([200, "run 2"]));
    let copies = seen["copies"].as_array().unwrap();
    assert!(
        copies.iter().all(|status| *status == 200 || *status == 409),
        "{copies:?}"
    );
    assert_eq!(seen["later"], serde_json::json!([200, "run 3"]));
    assert_eq!(seen["altered"][0], 402);
    assert_eq!(
        seen["altered"][1],
        "https://paymentauth.org/problems/invalid-challenge"
    );
    assert_eq!(market.runs(), 3);
    assert_eq!(market.sales().await, (money("0.00003 USD"), money("0 USD")));
    market.close().await;
}

/// The official server, and the lines it prints after its URL.
async fn selling(
    command: &mut Command,
) -> (
    Child,
    String,
    tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
) {
    let mut seller = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(seller.stdout.take().unwrap()).lines();
    let url = in_time(lines.next_line())
        .await
        .unwrap()
        .expect("the seller said nothing");
    (seller, url, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_pays_the_official_server_once() {
    let Some((_dir, mut command)) = peer("sell.mjs") else {
        return;
    };
    let (mut seller, url, mut lines) = selling(&mut command).await;
    let market = Market::open(Env::system()).await;
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let mut wanted = intent(&market, "k", "/tea", "0.50 USD");
    wanted.resource.clone_from(&url);
    for _ in 0..2 {
        let bought = shopper.fetch(get(&url), wanted.clone()).await.unwrap();
        let Fetched::Bought { hold, .. } = bought else {
            panic!("{bought:?}");
        };
        assert_eq!(hold.captured, money("0.00015 USD"));
    }
    wanted.key = crate::common::op("k2");
    wanted.amount_max = money("0.00014 USD");
    let dear = shopper.fetch(get(&url), wanted).await.unwrap();
    assert!(matches!(dear, Fetched::NotAsAllowed));
    drop(seller.stdin.take());
    let mut said = Vec::new();
    while let Some(line) = in_time(lines.next_line()).await.unwrap() {
        said.push(line);
    }
    assert_eq!(said, ["taken 1 from agent_buyer"]);
    assert!(in_time(seller.wait()).await.unwrap().success());
    market.close().await;
}
