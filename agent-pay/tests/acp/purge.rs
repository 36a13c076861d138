//! What a seller forgets when it is over, and what it never does.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use crate::acp_shop::{Served, pay_with, ready, say};
use crate::common::NOON_MS;
use agent_pay::acp::Purged;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);

/// Delegates a payment for a session until an hour has passed, and returns the token.
pub(crate) async fn delegated(served: &Served, key: &str, path: &str) -> String {
    let session = path.rsplit('/').next().unwrap();
    let ends = agent_core::Timestamp::from_unix_ms(NOON_MS + 3_600_000);
    let body = json!({
        "payment_method": {
            "type": "card", "card_number_type": "fpan", "number": "4242424242424242",
            "display_card_funding_type": "credit", "metadata": {},
        },
        "allowance": {
            "reason": "one_time", "max_amount": 100_000, "currency": "usd",
            "checkout_session_id": session, "merchant_id": "shop", "expires_at": ends.to_string(),
        },
        "risk_signals": [{ "type": "card_testing", "score": 1, "action": "authorized" }],
        "metadata": {},
    });
    let path = "/agentic_commerce/delegate_payment";
    let said = say(&served.base, "POST", path, Some(key), &body).await;
    assert_eq!(said.status, 201, "{}", said.body);
    said.body["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn pay(served: &Served, path: &str, token: &str) -> u16 {
    let complete = format!("{path}/complete");
    let said = say(&served.base, "POST", &complete, Some("p"), &pay_with(token)).await;
    said.status
}

pub(crate) async fn status(served: &Served, path: &str) -> Option<String> {
    let said = say(&served.base, "GET", path, None, &Value::Null).await;
    let status = said.body["status"].as_str().filter(|_| said.status == 200);
    status.map(ToOwned::to_owned)
}

/// A session that is left alone and one that is paid, each with a token, by their paths.
async fn one_left_and_one_sold() -> (Served, String, String) {
    let served = Served::open().await;
    let (left, sold) = (
        ready(&served.base, "a").await,
        ready(&served.base, "b").await,
    );
    let _unused = delegated(&served, "da", &left).await;
    let token = delegated(&served, "db", &sold).await;
    assert_eq!(pay(&served, &sold, &token).await, 200);
    (served, left, sold)
}

async fn purge(served: &Served) -> Purged {
    served.seller.purge(HOUR, 100).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_forgotten_with_its_card_and_orders_stay() {
    let (served, left, sold) = one_left_and_one_sold().await;
    assert_eq!(served.shop.vaulted().len(), 2);
    // Nothing is over; and what is, is kept for as long as was asked.
    for _ in 0..2 {
        assert_eq!(purge(&served).await, Purged::default());
        served.clock.advance(HOUR);
    }
    // The vault is not there, so its cards are not forgotten and neither are their tokens.
    served.clock.advance(Duration::from_secs(1));
    served.shop.set_away(true);
    let purged = purge(&served).await;
    assert_eq!((purged.n_tokens, purged.n_tokens_left), (0, 2));
    assert_eq!(served.shop.vaulted().len(), 2);
    served.shop.set_away(false);
    let purged = purge(&served).await;
    assert_eq!((purged.n_tokens, purged.n_tokens_left), (2, 0));
    assert!(served.shop.vaulted().is_empty());
    // Sessions last six hours.
    assert_eq!(
        status(&served, &left).await.as_deref(),
        Some("ready_for_payment")
    );
    served.clock.advance(4 * HOUR);
    assert_eq!(status(&served, &left).await.as_deref(), Some("expired"));
    served.clock.advance(HOUR);
    let purged = purge(&served).await;
    assert_eq!((purged.n_sessions, purged.n_answers), (1, 0));
    // Whoever asks late is told that it ended, and nothing of what was in it.
    assert_eq!(status(&served, &left).await.as_deref(), Some("expired"));
    let shown = say(&served.base, "GET", &left, None, &Value::Null).await;
    for empty in ["line_items", "totals", "fulfillment_options"] {
        assert_eq!(shown.body[empty], json!([]), "{empty}");
    }
    assert_eq!(shown.body.get("fulfillment_details"), None);
    assert_eq!(purge(&served).await.n_sessions, 0);
    assert_eq!(status(&served, &sold).await.as_deref(), Some("completed"));
    // Answers are kept for a day.
    served.clock.advance(24 * HOUR);
    assert!(purge(&served).await.n_answers > 0);
    assert_eq!(status(&served, &sold).await.as_deref(), Some("completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_of_a_payment_whose_outcome_is_not_known() {
    let served = Served::open().await;
    let path = ready(&served.base, "a").await;
    let token = delegated(&served, "d", &path).await;
    served.shop.lose_answers();
    assert!(pay(&served, &path, &token).await >= 202);
    served.clock.advance(48 * HOUR);
    served.seller.purge(HOUR, 100).await.unwrap();
    assert_eq!(served.shop.vaulted().len(), 1);
    assert_eq!(
        status(&served, &path).await.as_deref(),
        Some("complete_in_progress")
    );
    served.seller.reconcile(10).await.unwrap();
    assert_eq!(status(&served, &path).await.as_deref(), Some("completed"));
    assert_eq!(purge(&served).await.n_tokens, 1);
    assert!(served.shop.vaulted().is_empty());
}

/// A store of before there was a purge.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_anything_was_forgotten_is_forgotten_too() {
    let (served, left, sold) = one_left_and_one_sold().await;
    let earlier = "UPDATE pay_acp_session SET ends_ms = NULL; UPDATE pay_acp_token SET ends_ms = NULL; \
                   DELETE FROM core_migration WHERE layer = 'pay_acp' AND version = \
                   (SELECT max(version) FROM core_migration WHERE layer = 'pay_acp');";
    let write = |tx: &mut agent_core::store::Tx<'_>| {
        tx.sql().execute_batch(earlier).unwrap();
        Ok::<_, agent_pay::Error>(())
    };
    served.db.write(write).await.unwrap();
    served.clock.advance(2 * HOUR + Duration::from_secs(1));
    assert_eq!(purge(&served).await, Purged::default());
    let served = served.restart().await;
    assert_eq!(purge(&served).await.n_tokens, 2);
    assert_eq!(purge(&served).await.n_sessions, 0);
    served.clock.advance(5 * HOUR);
    assert_eq!(purge(&served).await.n_sessions, 1);
    assert_eq!(status(&served, &left).await.as_deref(), Some("expired"));
    assert_eq!(status(&served, &sold).await.as_deref(), Some("completed"));
}
