//! A seller by the Agentic Commerce Protocol, over HTTP.

#![expect(clippy::indexing_slicing, reason = "tests")]

use crate::acp_shop::{Served, TOTAL, cart, pay_with, ready, say, say_as, to_california, total};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_what_is_missing_and_its_sums_agree() {
    let served = Served::open().await;
    let base = &served.base;
    let made = say(
        base,
        "POST",
        "/checkout_sessions",
        Some("c"),
        &cart(&["tea", "cup", "tea"]),
    )
    .await;
    assert_eq!(
        (made.status, &made.body["status"]),
        (201, &json!("not_ready_for_payment"))
    );
    assert_eq!(made.body["line_items"][0]["quantity"], 2);
    assert_eq!(
        made.body["messages"][1]["param"],
        "$.selected_fulfillment_options"
    );
    let path = format!("/checkout_sessions/{}", made.body["id"].as_str().unwrap());
    let early = say(
        base,
        "POST",
        &format!("{path}/complete"),
        Some("e"),
        &pay_with("spt_1"),
    )
    .await;
    assert_eq!(
        (early.status, &early.body["code"]),
        (400, &json!("not_ready_for_payment"))
    );
    let update = json!({ "line_items": [{ "id": "tea" }, { "id": "tea" }] });
    let fewer = say(base, "POST", &path, Some("u1"), &update).await;
    assert_eq!(fewer.body["line_items"].as_array().unwrap().len(), 1);
    let ready = say(base, "POST", &path, Some("u2"), &to_california()).await;
    assert_eq!(
        (&ready.body["status"], total(&ready.body)),
        (&json!("ready_for_payment"), TOTAL)
    );
    let sum: i64 = ready.body["totals"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| ["subtotal", "fulfillment", "tax"].contains(&t["type"].as_str().unwrap()))
        .map(|t| t["amount"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, TOTAL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_as_an_order_or_given_up_and_goes_no_further() {
    let served = Served::open().await;
    let base = &served.base;
    let path = ready(base, "order").await;
    let done = say(
        base,
        "POST",
        &format!("{path}/complete"),
        Some("p"),
        &pay_with("spt_1"),
    )
    .await;
    assert_eq!(
        (done.status, &done.body["status"]),
        (200, &json!("completed")),
        "{}",
        done.body
    );
    assert_eq!(total(&done.body["order"]), TOTAL);
    assert_eq!(served.shop.taken().await, i128::from(TOTAL));
    // It is over: nothing changes it any more, under no key.
    for (step, body) in [
        ("", to_california()),
        ("/complete", pay_with("spt_2")),
        ("/cancel", json!({})),
    ] {
        let late = say(base, "POST", &format!("{path}{step}"), Some("late"), &body).await;
        assert_eq!(
            (late.status, &late.body["code"]),
            (405, &json!("session_completed")),
            "{step}"
        );
    }
    let read = say(base, "GET", &path, None, &Value::Null).await;
    assert_eq!(
        (read.status, &read.body["order"]),
        (200, &done.body["order"])
    );
    assert_eq!(served.shop.charges().len(), 1);
    // Another one is given up.
    let path = ready_and_given_up(base).await;
    let read = say(base, "GET", &path, None, &Value::Null).await;
    assert_eq!(read.body["status"], "canceled");
}

async fn ready_and_given_up(base: &str) -> String {
    let path = ready(base, "given-up").await;
    let canceled = say(
        base,
        "POST",
        &format!("{path}/cancel"),
        Some("x"),
        &Value::Null,
    )
    .await;
    assert_eq!(
        (canceled.status, &canceled.body["status"]),
        (200, &json!("canceled"))
    );
    let late = say(
        base,
        "POST",
        &format!("{path}/complete"),
        Some("p"),
        &pay_with("spt_1"),
    )
    .await;
    assert_eq!(late.status, 405);
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_answered_as_the_protocol_demands() {
    let served = Served::open().await;
    let base = &served.base;
    let path = "/checkout_sessions";
    for key in [None, Some("")] {
        let none = say(base, "POST", path, key, &cart(&["tea"])).await;
        assert_eq!(
            (none.status, &none.body["code"]),
            (400, &json!("idempotency_key_required"))
        );
    }
    let first = say(base, "POST", path, Some("k"), &cart(&["tea"])).await;
    // The same in another order of keys is the same.
    let same: Value = serde_json::from_str(
        r#"{"currency": "usd", "capabilities": {}, "line_items": [{"id": "tea"}]}"#,
    )
    .unwrap();
    let again = say(base, "POST", path, Some("k"), &same).await;
    assert_eq!(
        (
            first.status,
            first.is_replayed,
            again.status,
            again.is_replayed
        ),
        (201, false, 201, true)
    );
    assert_eq!(first.body, again.body);
    let other = say(base, "POST", path, Some("k"), &cart(&["cup"])).await;
    assert_eq!(
        (other.status, &other.body["code"]),
        (422, &json!("idempotency_conflict"))
    );
    // Keys are of whoever asks, and of what.
    let b = say_as("bearer_b", base, "POST", path, Some("k"), &cart(&["cup"])).await;
    assert_eq!((b.status, b.is_replayed), (201, false));
    let session = format!("{path}/{}", first.body["id"].as_str().unwrap());
    let elsewhere = say(base, "POST", &session, Some("k"), &to_california()).await;
    assert_eq!((elsewhere.status, elsewhere.is_replayed), (200, false));
    // A refusal is kept, a failure of the server is not.
    let bad = json!({ "line_items": [], "currency": "usd", "capabilities": {} });
    assert_eq!(say(base, "POST", path, Some("bad"), &bad).await.status, 400);
    assert!(say(base, "POST", path, Some("bad"), &bad).await.is_replayed);
    served.shop.set_away(true);
    let away = say(base, "POST", path, Some("away"), &cart(&["tea"])).await;
    assert_eq!(
        (away.status, away.retry_after, &away.body["type"]),
        (503, Some(3), &json!("service_unavailable"))
    );
    served.shop.set_away(false);
    let back = say(base, "POST", path, Some("away"), &cart(&["tea"])).await;
    assert_eq!((back.status, back.is_replayed), (201, false));
    // After a restart and nearly a day it is the same answer still.
    let served = served.restart().await;
    served
        .clock
        .advance(std::time::Duration::from_secs(23 * 3_600));
    let again = say(&served.base, "POST", path, Some("k"), &cart(&["tea"])).await;
    assert_eq!(
        (again.status, again.is_replayed, &again.body),
        (201, true, &first.body)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_completions_charge_once_and_those_that_wait_are_told_to() {
    let served = Served::open().await;
    let path = ready(&served.base, "race").await;
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (base, path) = (served.base.clone(), format!("{path}/complete"));
        racing.spawn(async move {
            // Half of them repeat one request, half are others.
            let key = if n % 2 == 0 {
                "same".to_owned()
            } else {
                format!("k{n}")
            };
            say(&base, "POST", &path, Some(&key), &pay_with("spt_1")).await
        });
    }
    for said in racing.join_all().await {
        match said.status {
            200 => assert_eq!(said.body["status"], "completed"),
            409 | 503 => assert!(said.retry_after.is_some_and(|s| s >= 1)),
            405 => assert_eq!(said.body["code"], "session_completed"),
            other => assert_eq!(other, 200, "{}", said.body),
        }
    }
    assert_eq!(served.shop.taken().await, i128::from(TOTAL));
    let read = say(&served.base, "GET", &path, None, &Value::Null).await;
    assert_eq!(read.body["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_outcome_is_unknown_is_looked_up_and_never_taken_again() {
    let served = Served::open().await;
    let path = ready(&served.base, "lost").await;
    let complete = format!("{path}/complete");
    served.shop.set_away(true);
    let lost = say(
        &served.base,
        "POST",
        &complete,
        Some("p"),
        &pay_with("spt_lost"),
    )
    .await;
    assert_eq!((lost.status, lost.retry_after), (503, Some(7)));
    // The process dies and comes back; nobody knows yet, and nothing can be changed meanwhile.
    let served = served.restart().await;
    let read = say(&served.base, "GET", &path, None, &Value::Null).await;
    assert_eq!(read.body["status"], "complete_in_progress");
    for (step, key, body) in [
        ("/complete", "p", pay_with("spt_lost")),
        ("/complete", "q", pay_with("spt_2")),
        ("/cancel", "x", json!({})),
    ] {
        let again = say(
            &served.base,
            "POST",
            &format!("{path}{step}"),
            Some(key),
            &body,
        )
        .await;
        assert_eq!(again.status, 503, "{step} {}", again.body);
    }
    assert_eq!(
        say(&served.base, "POST", &path, Some("u"), &to_california())
            .await
            .status,
        405
    );
    assert_eq!(served.seller.reconcile(10).await.unwrap(), 0);
    served.shop.set_away(false);
    assert_eq!(served.seller.reconcile(10).await.unwrap(), 1);
    let read = say(&served.base, "GET", &path, None, &Value::Null).await;
    assert_eq!(read.body["status"], "completed");
    assert_eq!(
        (served.shop.charges().len(), served.shop.taken().await),
        (1, i128::from(TOTAL))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_payment_leaves_the_session_to_another_token() {
    let served = Served::open().await;
    let path = ready(&served.base, "declined").await;
    let complete = format!("{path}/complete");
    for is_replayed in [false, true] {
        let no = say(
            &served.base,
            "POST",
            &complete,
            Some("p"),
            &pay_with("spt_declined"),
        )
        .await;
        assert_eq!(
            (no.status, &no.body["code"]),
            (402, &json!("payment_declined"))
        );
        assert_eq!(no.is_replayed, is_replayed);
    }
    let yes = say(
        &served.base,
        "POST",
        &complete,
        Some("q"),
        &pay_with("spt_2"),
    )
    .await;
    assert_eq!(
        (yes.status, &yes.body["status"]),
        (200, &json!("completed")),
        "{}",
        yes.body
    );
    let ids: std::collections::BTreeSet<String> =
        served.shop.charges().into_iter().map(|c| c.0).collect();
    assert_eq!(
        (ids.len(), served.shop.taken().await),
        (2, i128::from(TOTAL))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_session_of_another_and_old_ones_end() {
    let served = Served::open().await;
    let path = ready(&served.base, "mine").await;
    for (method, step, body) in [
        ("GET", "", Value::Null),
        ("POST", "", to_california()),
        ("POST", "/complete", pay_with("spt_1")),
        ("POST", "/cancel", json!({})),
    ] {
        let key = (method == "POST").then_some("k");
        let other = say_as(
            "bearer_b",
            &served.base,
            method,
            &format!("{path}{step}"),
            key,
            &body,
        )
        .await;
        assert_eq!(other.status, 404, "{step}");
        let nobody = say_as(
            "bearer_c",
            &served.base,
            method,
            &format!("{path}{step}"),
            key,
            &body,
        )
        .await;
        assert_eq!(nobody.status, 401, "{step}");
    }
    served
        .clock
        .advance(std::time::Duration::from_secs(6 * 3_600));
    let read = say(&served.base, "GET", &path, None, &Value::Null).await;
    assert_eq!(read.body["status"], "expired");
    let late = say(
        &served.base,
        "POST",
        &format!("{path}/complete"),
        Some("p"),
        &pay_with("spt_1"),
    )
    .await;
    assert_eq!((late.status, served.shop.charges().len()), (405, 0));
}
