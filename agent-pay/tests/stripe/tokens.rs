//! Shared payment tokens: how far one goes, and that one that goes further is not taken.

use std::sync::Arc;

use crate::common::{money, op};
use crate::fake_stripe::{FakeStripe, Faults};
use agent_core::Timestamp;
use agent_pay::stripe::{CallError, MethodId, Money, NewIntent, NewSharedToken, ProfileId, Source};
use serde_json::json;

use crate::wire::{Says, client};

#[tokio::test]
async fn a_shared_token_goes_as_far_as_it_says_and_can_be_taken_back() {
    let fake = FakeStripe::new(Faults::default(), 1);
    let client = client(Arc::<FakeStripe>::clone(&fake));
    let cents = |n: i64| Money::new(money(&format!("{n} JPY"))).unwrap();
    let at = |s: i64| Timestamp::from_unix_ms(s * 1_000);
    let (method, seller) = (
        MethodId::new("pm_card").unwrap(),
        ProfileId::new("profile_1a").unwrap(),
    );
    let new =
        NewSharedToken::new(method, seller, cents(1_000), at(2_000)).with_external_id("order-1");
    let token = client.issue_token(&op("t"), &new).await.unwrap();
    assert_eq!(client.issue_token(&op("t"), &new).await.unwrap(), token);
    assert!(token.covers(&cents(1_000), at(1_999)));
    assert!(!token.covers(&cents(1_001), at(1_999)) && !token.covers(&cents(1), at(2_000)));
    assert!(!token.covers(&Money::new(money("1 USD")).unwrap(), at(1)));
    let sent = &fake.seen()[0];
    assert_eq!(
        sent.headers["stripe-version"],
        agent_pay::stripe::API_VERSION_SHARED
    );
    let said = [
        ("payment_method", "pm_card"),
        ("seller_details[network_business_profile]", "profile_1a"),
        ("seller_details[external_id]", "order-1"),
        ("usage_limits[currency]", "jpy"),
        ("usage_limits[max_amount]", "1000"),
        ("usage_limits[expires_at]", "2000"),
    ];
    let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(sent.form, said.into());
    // The seller charges it: within the limit, and not after it is taken back.
    let charge = |n, key: &'static str| {
        let (client, source) = (client.clone(), Source::shared(token.id.clone()));
        async move {
            client
                .create(&op(key), &NewIntent::new(cents(n), source))
                .await
        }
    };
    assert!(charge(1_001, "a").await.is_err());
    let made = charge(1_000, "b").await.unwrap();
    assert!(
        client
            .confirm(&op("c"), &made.name().unwrap(), true)
            .await
            .is_ok()
    );
    let revoked = client.revoke_token(&op("r"), &token.id).await.unwrap();
    assert_eq!(
        (revoked.is_active, revoked.deactivated_reason.as_deref()),
        (false, Some("revoked"))
    );
    assert!(!client.granted_token(&token.id).await.unwrap().is_active);
    assert!(charge(1, "d").await.is_err());
}

/// Answers everything with the same bytes.
#[tokio::test]
async fn a_token_that_goes_further_than_asked_is_not_taken() {
    let wider = json!({ "id": "spt_a1b", "status": "active",
        "usage_limits": { "currency": "usd", "max_amount": 501, "expires_at": 1 } });
    let client = client(Arc::new(Says(200, wider.to_string().into_bytes())));
    let (method, seller) = (
        MethodId::new("pm_card").unwrap(),
        ProfileId::new("profile_1a").unwrap(),
    );
    let limit = Money::new(money("5 USD")).unwrap();
    let new = NewSharedToken::new(method, seller, limit, Timestamp::from_unix_ms(1));
    let refused = client.issue_token(&op("t"), &new).await.err();
    assert!(
        matches!(refused, Some(CallError::Unknown { .. })),
        "{refused:?}"
    );
}
