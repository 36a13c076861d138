//! What is read out of the logs of a chain. The node here answers with logs as nodes write them
//! (Ethereum JSON-RPC API); a real one is asked in `peers`.

use std::sync::Arc;

use agent_pay::transport::{Answer, Lost, Request, Transport};
use agent_pay::x402::{
    Address, Atomic, Authorization, BlockTag, Bytes32, Chain, EvmRpc, Execution,
};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::house::{domain, payee};

/// The topics of `AuthorizationUsed` and `AuthorizationCanceled` as block explorers show them.
const USED: &str = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
const CANCELED: &str = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81";

/// A node whose chain has these logs: kind of event, place, and topics and data after the first.
#[derive(Debug)]
struct Node(Vec<(&'static str, u64, Vec<String>, String)>);

#[async_trait]
impl Transport for Node {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let asked: Value = serde_json::from_slice(request.body()).unwrap();
        let result = match asked["method"].as_str().unwrap() {
            "eth_chainId" => json!("0x14a34"),
            "eth_getBlockByNumber" => json!({ "number": "0x64", "timestamp": "0x1" }),
            "eth_call" => json!(format!("0x{:064x}", 1)),
            _ => self.logs(&asked["params"][0]["topics"]),
        };
        Ok(http::Response::new(
            json!({ "result": result }).to_string().into_bytes(),
        ))
    }
}

impl Node {
    fn logs(&self, asked: &Value) -> Value {
        let asked = asked.as_array().unwrap();
        let kind = match asked[0].as_str().unwrap() {
            USED => "used",
            CANCELED => "canceled",
            _ => "moved",
        };
        let found = self.0.iter().filter(|(of, _, topics, _)| {
            *of == kind
                && asked
                    .iter()
                    .skip(1)
                    .zip(topics)
                    .all(|(a, t)| a == t.as_str())
        });
        found
            .map(|(_, place, topics, data)| {
                let topics: Vec<&str> = std::iter::once("0x")
                    .chain(topics.iter().map(String::as_str))
                    .collect();
                json!({
                    "logIndex": format!("{place:#x}"), "blockNumber": "0x32",
                    "transactionHash": "0xaa", "topics": topics, "data": data,
                })
            })
            .collect()
    }
}

fn word(address: &Address) -> String {
    format!(
        "0x{:0>64}",
        address.to_string().to_lowercase().trim_start_matches("0x")
    )
}

async fn looked_up(
    logs: Vec<(&'static str, u64, Vec<String>, String)>,
) -> agent_pay::Result<Execution> {
    let from = Address::from_bytes([1; 20]);
    let nonce = Bytes32::from_bytes([2; 32]);
    let authorization = Authorization::new((from, payee()), Atomic::new(1_000), (0, 9), nonce);
    let rpc = EvmRpc::new(Arc::new(Node(logs)), "http://127.0.0.1/", 84_532);
    rpc.with_tag(BlockTag::Latest)
        .look_up(domain(), authorization)
        .await
}

fn used(place: u64, nonce: u8) -> (&'static str, u64, Vec<String>, String) {
    let nonce = Bytes32::from_bytes([nonce; 32]).to_string();
    (
        "used",
        place,
        vec![word(&Address::from_bytes([1; 20])), nonce],
        "0x".to_owned(),
    )
}

fn moved(place: u64, to: Address, value: u64) -> (&'static str, u64, Vec<String>, String) {
    let topics = vec![word(&Address::from_bytes([1; 20])), word(&to)];
    ("moved", place, topics, format!("0x{value:064x}"))
}

#[tokio::test]
async fn a_nonce_is_paid_by_the_transfer_that_follows_it_and_no_other() {
    let own = Address::from_bytes([1; 20]);
    let paid = looked_up(vec![used(4, 2), moved(5, payee(), 1_000)])
        .await
        .unwrap();
    assert_eq!(paid, Execution::executed("0xaa"));
    // The payer moves the nonce's money to themselves and pays with another in one transaction, to be
    // served twice for one payment.
    let batch = vec![
        used(4, 2),
        moved(5, own, 1_000),
        used(6, 3),
        moved(7, payee(), 1_000),
    ];
    assert!(matches!(
        looked_up(batch).await.unwrap(),
        Execution::Never { .. }
    ));
    for wrong in [
        moved(3, payee(), 1_000),
        moved(5, payee(), 999),
        moved(5, own, 1_000),
    ] {
        assert!(matches!(
            looked_up(vec![used(4, 2), wrong]).await.unwrap(),
            Execution::Never { .. }
        ));
    }
}

/// The token says of both only that the nonce is not free.
#[tokio::test]
async fn a_nonce_its_payer_canceled_is_never_paid() {
    let canceled = |nonce| ("canceled", 4, used(4, nonce).2, "0x".to_owned());
    let never = looked_up(vec![canceled(2), moved(5, payee(), 1_000)]).await;
    assert_eq!(never.unwrap(), Execution::never("authorization_canceled"));
    // Another nonce that was canceled says nothing of this one.
    assert!(looked_up(vec![canceled(3)]).await.is_err());
    let paid = vec![canceled(3), used(4, 2), moved(5, payee(), 1_000)];
    assert_eq!(looked_up(paid).await.unwrap(), Execution::executed("0xaa"));
}

/// It may be older than nodes look for: that it is not found says nothing.
#[tokio::test]
async fn a_nonce_whose_use_is_not_found_is_unknown() {
    assert!(looked_up(vec![]).await.is_err());
    assert!(looked_up(vec![moved(5, payee(), 1_000)]).await.is_err());
}
