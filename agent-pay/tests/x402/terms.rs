//! Which terms are taken: what the house lists, what the authority allows, and what is signed.

use crate::desk::{Desk, market, merchant, token, usd};
use crate::house::{House, PRICE, asked, domain, payee};
use agent_core::Principal;
use agent_pay::authority::Vote;
use agent_pay::x402::Sale;
use agent_pay::x402::{Atomic, Domain, LocalKey, Requirements, Signer, is_signed, sign_offers};
use agent_pay::x402::{BuyerConfig, Fetched, Merchant, Token};
use std::sync::Arc;

#[tokio::test]
async fn the_authority_decides_what_is_bought() {
    let (house, shop, desk) = market().await;
    let url = format!("{}/a", shop.url);
    desk.authority.halt(true, Principal::host()).await.unwrap();
    let fetched = desk.fetch("k0", &url).await.unwrap();
    assert!(matches!(fetched, Fetched::Denied(refusal) if refusal.code == "halted"));
    desk.authority.halt(false, Principal::host()).await.unwrap();
    for n in 0..10 {
        desk.bought(&format!("k{n}"), &url).await;
    }
    let fetched = desk.fetch("k10", &url).await.unwrap();
    assert!(matches!(fetched, Fetched::Denied(refusal) if refusal.code == "over_limit"));
    assert_eq!(
        (house.earned().await, desk.books().await),
        (10_000, (10_000, 0))
    );
    assert_eq!(desk.n_signed(), (10, 10));
}

/// A price nobody vouches for and a payee nobody knows are asked about, and what is approved is
/// exactly what was asked.
#[tokio::test]
async fn strangers_are_asked_about() {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let desk = Desk::open(&house, BuyerConfig::new(vec![token()])).await;
    let url = format!("{}/a", shop.url);
    let request = match desk.fetch("k1", &url).await.unwrap() {
        Fetched::NeedsApproval(request) => Ok(request),
        other => Err(other),
    }
    .unwrap();
    let reasons = request.reasons();
    assert!(
        reasons.contains("payee_tainted") && reasons.contains("price_unknown"),
        "{reasons}"
    );
    assert_eq!(desk.n_signed(), (0, 0));
    let alice = Principal::new("human:alice").unwrap();
    desk.authority
        .vote(request.digest, alice, Vote::Approve)
        .await
        .unwrap();
    assert_eq!(desk.bought("k1", &url).await, b"work 1 of ");
}

#[tokio::test]
async fn only_listed_tokens_within_their_cap_are_paid_with() {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let url = format!("{}/a", shop.url);
    let other = |chain, name: &str| Domain::new(name, "2", chain, domain().contract);
    let tokens = [
        vec![],
        vec![Token::new(domain(), 6, usd(999)).unwrap()],
        vec![Token::new(other(1, "USD Coin"), 6, usd(5_000)).unwrap()],
        // The signature would be for another domain than the token's.
        vec![Token::new(other(84_532, "Other"), 6, usd(5_000)).unwrap()],
        // A thousand atoms of a token with 18 decimals are no whole millionth.
        vec![Token::new(domain(), 18, usd(5_000)).unwrap()],
    ];
    for tokens in tokens {
        let config = BuyerConfig::new(tokens.clone()).with_merchant(merchant(&shop));
        let desk = Desk::open(&house, config).await;
        let refused = desk.fetch("k1", &url).await;
        assert!(
            matches!(
                refused,
                Err(agent_pay::Error::SpendDenied {
                    code: "no_acceptable_offer",
                    ..
                })
            ),
            "{tokens:?} {refused:?}"
        );
        assert_eq!(desk.n_signed(), (0, 0));
    }
    // Eighteen decimals, booked exactly.
    let price = Requirements::new(&domain(), payee(), Atomic::new(3_000_000_000_000), 60).unwrap();
    let shop = house.sells_at_its_own_url(Sale::new(vec![price])).await;
    let config = BuyerConfig::new(vec![Token::new(domain(), 18, usd(5_000)).unwrap()]);
    let desk = Desk::open(&house, config.with_merchant(merchant(&shop))).await;
    let fetched = desk.fetch("k1", &format!("{}/a", shop.url)).await.unwrap();
    assert!(
        matches!(&fetched, Fetched::Unknown { hold, .. } if hold.amount == usd(3)),
        "{fetched:?}"
    );
}

/// A known seller under whose URL somebody else wants to be paid is no known seller.
#[tokio::test]
async fn a_known_seller_is_paid_where_it_is_known_to_be() {
    let house = House::open(100_000).await;
    let shop = house.sells_at_its_own_url(Sale::new(vec![asked()])).await;
    let url = format!("{}/a", shop.url);
    let elsewhere = house.shopkeeper.address();
    // The beginning of a URL is not the seller's when it ends within a name or a number.
    let mut near = shop.url.clone();
    near.pop();
    for merchant in [
        Merchant::new(&shop.url, elsewhere, usd(1_000)),
        Merchant::new(&shop.url, payee(), usd(999)),
        Merchant::new(&near, payee(), usd(1_000)),
    ] {
        let config = BuyerConfig::new(vec![token()]).with_merchant(merchant);
        let desk = Desk::open(&house, config).await;
        let fetched = desk.fetch("k1", &url).await.unwrap();
        assert!(matches!(fetched, Fetched::NeedsApproval(_)), "{fetched:?}");
    }
}

/// The offer of viem 2.57.20 (`signTypedData`, domain `x402 offer`), by the public test key.
#[tokio::test]
async fn a_signed_offer_vouches_for_payee_and_price() {
    let payload = serde_json::json!({
        "version": 1, "resourceUrl": "https://api.example.com/premium-data", "scheme": "exact",
        "network": "eip155:8453", "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "10000",
        "validUntil": 1_703_123_516,
    });
    let signature = "0xd42c3a7038235e6308a22affc8112bd3d609ae4d19a0eb1fb49ac70847b65d3701cdacb60d37f52dc77a20c790c588c20aa133bc8ffd22a559d2385b3af0c54b1c";
    let extension = serde_json::json!({ "info": { "offers": [
        { "format": "eip712", "acceptIndex": 0, "payload": payload, "signature": signature },
    ] } });
    let extensions = serde_json::Map::from_iter([("offer-receipt".to_owned(), extension)]);
    let usdc = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
        .parse()
        .unwrap();
    let key = crate::wire::test_key();
    let base = Domain::new("USD Coin", "2", 8_453, usdc);
    let price = |atoms| Requirements::new(&base, key.address(), Atomic::new(atoms), 60).unwrap();
    let url = "https://api.example.com/premium-data";
    assert!(is_signed(&extensions, url, &price(10_000), 1_703_123_516));
    assert!(
        !is_signed(&extensions, url, &price(10_000), 1_703_123_517),
        "its time is over"
    );
    assert!(
        !is_signed(&extensions, url, &price(10_001), 0),
        "another amount"
    );
    assert!(!is_signed(
        &extensions,
        "https://api.example.com/other",
        &price(10_000),
        0
    ));
    let (name, made) = sign_offers(&key, url, &[price(10_000)], 1_703_123_516)
        .await
        .unwrap();
    assert_eq!(made, extensions[&name], "the same as viem makes");

    // From end to end: nobody is asked about what is signed by who is paid.
    let house = House::open(100_000).await;
    let asked = Requirements::new(
        &domain(),
        house.shopkeeper.address(),
        Atomic::new(PRICE),
        60,
    );
    let keeper: Arc<dyn Signer> = Arc::<LocalKey>::clone(&house.shopkeeper);
    let sale = Sale::new(vec![asked.unwrap()]).with_offers_signed_by(keeper);
    let shop = house.sells_at_its_own_url(sale).await;
    let desk = Desk::open(&house, BuyerConfig::new(vec![token()])).await;
    assert_eq!(
        desk.bought("k1", &format!("{}/a", shop.url)).await,
        b"work 1 of "
    );
}
