//! Seller and agent talk through Prism, which compares every request and answer with the documents of
//! the protocol. `ACP_PEERS` names the folder where Prism is installed, `ACP_DOCUMENTS` that of the
//! documents.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::common;
use crate::peer;

use std::sync::Arc;

use crate::acp_shop::Served;
use crate::common::op;
use crate::peer::Peer;
use agent_core::{IdempotencyKey, Secret, Timestamp};
use agent_pay::acp::{
    AcpClient, AcpError, Allowance, CardDelegation, Checkout, Credential, FulfillmentDetails,
    Selected, SessionStatus,
};
use agent_pay::transport::{Answer, Direct, DirectConfig, Lost, Request, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Passes requests on and keeps what Prism says of them.
#[derive(Debug)]
struct Watching {
    direct: Direct,
    violations: Mutex<Vec<String>>,
    n_seen: Mutex<usize>,
}

#[async_trait::async_trait]
impl Transport for Watching {
    async fn send(&self, request: Request) -> Result<Answer, Lost> {
        let answer = self.direct.send(request).await?;
        *self.n_seen.lock() += 1;
        if let Some(said) = answer.headers().get("sl-violations") {
            let said: Vec<Value> = serde_json::from_slice(said.as_bytes()).unwrap();
            let said = said.iter().map(ToString::to_string);
            self.violations.lock().extend(said);
        }
        Ok(answer)
    }
}

fn watching() -> Arc<Watching> {
    Arc::new(Watching {
        direct: Direct::new(DirectConfig::new()).unwrap(),
        violations: Mutex::default(),
        n_seen: Mutex::new(0),
    })
}

/// Starts Prism with a document in front of a seller.
fn prism(document: &str, upstream: &str) -> Option<Peer> {
    let (folder, documents) = (peer::folder("ACP_PEERS")?, peer::folder("ACP_DOCUMENTS")?);
    let document = std::fs::canonicalize(documents.join(document)).unwrap();
    let args = [document.to_str().unwrap(), upstream];
    Some(Peer::start_with(&folder, "node", "acp/prism.cjs", &args))
}

fn client(base: &str, transport: &Arc<Watching>) -> AcpClient {
    let transport: Arc<dyn Transport> = Arc::<Watching>::clone(transport);
    AcpClient::new(base, &Secret::from("bearer_a"), transport).unwrap()
}

fn key(text: &str) -> IdempotencyKey {
    op(text)
}

async fn ready(client: &AcpClient, name: &str) -> Result<Checkout, AcpError> {
    let buyer =
        serde_json::from_value(json!({ "email": "a@example.com", "first_name": "A" })).unwrap();
    let made = client
        .create(
            &key(&format!("c{name}")),
            &["tea", "cup", "tea"],
            "usd",
            Some(&buyer),
            None,
        )
        .await?;
    let details: FulfillmentDetails = serde_json::from_value(json!({
        "name": "A", "email": "a@example.com",
        "address": { "name": "A", "line_one": "1 Street", "city": "San Francisco", "state": "CA",
            "country": "US", "postal_code": "94102" },
    }))
    .unwrap();
    let selected: Vec<Selected> = serde_json::from_value(json!([
        { "type": "shipping", "option_id": "fast", "item_ids": ["li_tea", "li_cup"] }
    ]))
    .unwrap();
    client
        .update(
            &key(&format!("u{name}")),
            &made.id,
            Some(&details),
            Some(&selected),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn checkout_is_by_the_document() {
    let served = Served::open().await;
    let Some(prism) = prism("openapi.agentic_checkout.yaml", &served.base) else {
        return;
    };
    let watching = watching();
    let client = client(&prism.base(), &watching);
    let checkout = ready(&client, "1").await.unwrap();
    assert_eq!(checkout.status, SessionStatus::ReadyForPayment);
    let credential = Credential::new("spt", "spt_1");
    let early = client.get("cs_none").await.err().unwrap();
    assert!(
        matches!(&early, AcpError::Refused(said) if said.status == 404),
        "{early:?}"
    );
    let declined = Credential::new("spt", "spt_declined");
    let no = client
        .complete(&key("n"), &checkout.id, "card_tokenized", &declined)
        .await;
    assert!(
        matches!(&no, Err(AcpError::Refused(said)) if said.status == 402),
        "{no:?}"
    );
    assert_eq!(*watching.violations.lock(), Vec::<String>::new());
    for _ in 0..2 {
        let done = client
            .complete(&key("p"), &checkout.id, "card_tokenized", &credential)
            .await;
        assert_eq!(done.unwrap().status, SessionStatus::Completed);
    }
    let read = client.get(&checkout.id).await.unwrap();
    assert!(read.order_id().is_some());
    // The document forbids in its base what it then demands: a completed session has an order, and
    // sessions have no fields beside those of the base. It is the only thing that may be said.
    let said = std::mem::take(&mut *watching.violations.lock());
    let is_known = |said: &String| said.contains("order") && said.contains("additional");
    assert!(said.iter().all(is_known), "{said:#?}");
    let late = client.cancel(&key("x"), &checkout.id).await;
    assert!(
        matches!(&late, Err(AcpError::Refused(said)) if said.status == 405),
        "{late:?}"
    );
    let other = ready(&client, "2").await.unwrap();
    let conflict = client.create(&key("c2"), &["cup"], "usd", None, None).await;
    assert!(
        matches!(&conflict, Err(AcpError::Refused(said)) if said.status == 422),
        "{conflict:?}"
    );
    let canceled = client.cancel(&key("x2"), &other.id).await.unwrap();
    assert_eq!(canceled.status, SessionStatus::Canceled);
    assert_eq!(*watching.violations.lock(), Vec::<String>::new());
    assert!(*watching.n_seen.lock() >= 12);
    // It does look: what is not by the document is named.
    let bad = client.create(&key("bad"), &[], "usd", None, None).await;
    assert!(bad.is_err() && !watching.violations.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn delegated_payment_is_by_the_document() {
    let served = Served::open().await;
    let Some(prism) = prism("openapi.delegate_payment.yaml", &served.base) else {
        return;
    };
    let watching = watching();
    let through = client(&prism.base(), &watching);
    let checkout = ready(&client(&served.base, &watching), "1").await.unwrap();
    let total = checkout.total().unwrap();
    let card = json!({
        "type": "card", "card_number_type": "fpan", "number": "4242424242424242",
        "exp_month": "11", "exp_year": "2040", "cvc": "223", "display_card_funding_type": "credit",
        "display_last4": "4242", "metadata": {},
    });
    let ends = Timestamp::from_unix_ms(common::NOON_MS + 3_600_000);
    let delegation = |merchant: &str| {
        let allowance = Allowance::new(&checkout.id, merchant, total, "usd", ends);
        CardDelegation::new(Secret::from(card.to_string()), allowance)
    };
    let token = through
        .delegate(&key("d"), &delegation("shop"))
        .await
        .unwrap();
    assert_eq!(
        through
            .delegate(&key("d"), &delegation("shop"))
            .await
            .unwrap(),
        token
    );
    for (k, status) in [("d", 422), ("e", 400)] {
        let refused = through
            .delegate(&key(k), &delegation("other"))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(&refused, AcpError::Refused(said) if said.status == status),
            "{refused:?}"
        );
    }
    assert_eq!(*watching.violations.lock(), Vec::<String>::new());
    let paying = client(&served.base, &watching);
    let done = paying
        .complete(&key("p"), &checkout.id, "card_tokenized", &token)
        .await;
    assert_eq!(done.unwrap().status, SessionStatus::Completed);
    assert_eq!(served.shop.taken().await, i128::from(total));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_session_is_by_the_document() {
    let served = Served::open().await;
    let Some(prism) = prism("openapi.agentic_checkout.yaml", &served.base) else {
        return;
    };
    let watching = watching();
    let client = client(&prism.base(), &watching);
    let checkout = ready(&client, "1").await.unwrap();
    let day = std::time::Duration::from_secs(86_400);
    served.clock.advance(day);
    let purged = served.seller.purge(std::time::Duration::ZERO, 10).await;
    assert_eq!(purged.unwrap().n_sessions, 1);
    let forgotten = client.get(&checkout.id).await.unwrap();
    assert_eq!(
        (forgotten.status, forgotten.total()),
        (SessionStatus::Expired, None)
    );
    assert_eq!(*watching.violations.lock(), Vec::<String>::new());
}
