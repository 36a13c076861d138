//! Imported budgets: they count, are had once, and end.

use agent_core::{Amount, Timestamp};
use agent_pay::ap2::{Facts, PaymentMandate, Violation, sweep};
use agent_pay::authority::Authorization;
use serde_json::json;

use crate::common::{Shop, money, path, who};
use crate::minting::{Minted, assets, chain, closed, disclosure, hash, now, open, pair, verify};
use crate::payments::{budget, range, read};

const POLICY: &str = r#"
[node.user]
limits = ["1000.00 USD lifetime"]
first_payee = "allow"
"#;

/// Imports the user's mandate and pays transactions under it; returns which were allowed.
async fn pay(shop: &Shop, constraints: &str, payments: &[(&str, i64)]) -> Vec<bool> {
    let mut allowed = Vec::new();
    for (transaction, minor) in payments {
        let mut payment = closed(*minor, "USD");
        payment["transaction_id"] = json!(transaction);
        let mandate = read(constraints, &payment).unwrap();
        let (under, host) = (path("user"), who("host"));
        let node = mandate
            .import(&shop.authority, &under, &host)
            .await
            .unwrap();
        let facts = Facts::at(shop.now()).with_open_checkout("open-1");
        let until = Timestamp::from_unix_ms(now().as_unix_ms() + 3_600_000);
        let intent = mandate.intent(&facts, node, who("agent"), until);
        let Ok(intent) = intent else {
            allowed.push(false);
            continue;
        };
        let intent = intent.with_basis(agent_pay::authority::PriceBasis::RateCard);
        let mut intent = intent;
        intent.payee.origin = agent_pay::authority::Origin::Catalogue;
        let authorized = shop.authorize(&intent).await;
        if let Authorization::Held {
            hold, is_replayed, ..
        } = &authorized
        {
            if !is_replayed {
                let captured = shop.authority.capture(hold.key.clone(), hold.amount);
                captured.await.unwrap();
            }
            assert_eq!(
                hold.amount,
                Amount::from_units(i128::from(*minor) * 10_000, hold.amount.asset())
            );
        }
        allowed.push(matches!(authorized, Authorization::Held { .. }));
    }
    allowed
}

#[tokio::test]
async fn an_imported_budget_counts_over_payments_and_a_transaction_is_paid_once() {
    let shop = Shop::open(POLICY).await;
    let recurring = r#"{"type":"payment.agent_recurrence","frequency":"ON_DEMAND"}"#;
    let constraints = format!("{},{},{recurring}", range(1_500), budget("19.99", "USD"));
    let payments = [("a", 1_000), ("b", 1_000), ("c", 999), ("c", 999), ("d", 1)];
    let allowed = pay(&shop, &constraints, &payments).await;
    // To the cent: 10.00 and 9.99 fit, and not a cent more; the same transaction is the same spend.
    assert_eq!(allowed, [true, false, true, true, false]);
    shop.check().await;
}

#[tokio::test]
async fn a_mandate_recurs_as_often_as_it_says_and_else_pays_once() {
    let shop = Shop::open(POLICY).await;
    let once = range(500);
    assert_eq!(
        pay(&shop, &once, &[("a", 5), ("b", 5)]).await,
        [true, false]
    );
    let bounds = format!("{},{}", range(501), budget("100.00", "USD"));
    let daily = r#"{"type":"payment.agent_recurrence","frequency":"DAILY","max_occurrences":2}"#;
    let daily = format!("{bounds},{daily}");
    assert_eq!(
        pay(&shop, &daily, &[("a", 5), ("b", 5)]).await,
        [true, false]
    );
    shop.check().await;
    let shop = Shop::open(POLICY).await;
    let thrice =
        r#"{"type":"payment.agent_recurrence","frequency":"ON_DEMAND","max_occurrences":2}"#;
    let thrice = format!("{bounds},{thrice}");
    let allowed = pay(&shop, &thrice, &[("a", 5), ("b", 5), ("c", 5)]).await;
    assert_eq!(allowed, [true, true, false]);
    shop.check().await;
}

#[tokio::test]
async fn each_delegate_can_only_narrow_and_payees_are_those_that_were_named() {
    let shop = Shop::open(POLICY).await;
    let tea = r#"{"type":"payment.allowed_payees","allowed":[{"id":"shop:tea","name":"Tea"}]}"#;
    let minted = [
        Minted::root(open(&format!("{},{tea}", range(500)), 2)),
        Minted::hop(2, "kb+sd-jwt+kb", open(&range(900), 3)),
        Minted::hop(3, "kb+sd-jwt", closed(600, "USD")),
    ];
    let verified = verify(&chain(&minted), 2).unwrap();
    let mandate = PaymentMandate::read(&verified, &assets()).unwrap();
    let facts = Facts::at(now()).with_open_checkout("open-1");
    assert_eq!(mandate.check(&facts).unwrap_err(), [Violation::AmountRange]);
    let node = mandate
        .import(&shop.authority, &path("user"), &who("host"))
        .await
        .unwrap();
    assert_eq!(node.as_str().matches('/').count(), 2);
    // Nor past the mandate's own check.
    let mut intent = shop.intent("k", node.as_str(), "6.00 USD");
    assert_eq!(shop.denied(&intent).await, "over_limit");
    intent.amount_max = money("5.00 USD");
    intent.payee.name = "shop:milk".to_owned();
    assert_eq!(shop.denied(&intent).await, "payee_not_listed");
    intent.payee.name = "shop:tea".to_owned();
    shop.held(&intent).await;
    shop.check().await;
    // Narrowed to what the one before allows.
    let policies = mandate.policies().unwrap();
    assert_eq!(policies[1].limits, policies[0].limits);
    let unbounded = read("", &closed(1, "USD")).unwrap();
    assert!(unbounded.policies().is_err());
}

#[tokio::test]
async fn no_disclosure_and_no_other_signature_gives_a_budget_twice() {
    let shop = Shop::open(POLICY).await;
    let names = ["tea", "milk"].map(|name| format!(r#"{{"id":"shop:{name}","name":"{name}"}}"#));
    let digests = names
        .each_ref()
        .map(|name| format!(r#"{{"...":"{}"}}"#, hash(&disclosure(name))));
    let allowed = format!(
        r#"{{"type":"payment.allowed_payees","allowed":[{}]}}"#,
        digests.join(",")
    );
    let mut nodes = Vec::new();
    let mut keys = Vec::new();
    for shown in [0..1, 0..2] {
        let mut minted = pair(&format!("{},{allowed}", range(500)), &closed(500, "USD"));
        minted[0].disclosures = names[shown].iter().map(|name| disclosure(name)).collect();
        let whole = chain(&minted);
        for whole in [whole.clone(), resigned(&whole)] {
            // The closed mandate of the other signature is bound to the first: only the root is looked at.
            let verified = verify(&whole, 1)
                .or_else(|_bound| verify(&format!("{}~", whole.split("~~").next().unwrap()), 0));
            let mandate = PaymentMandate::read(&verified.unwrap(), &assets()).unwrap();
            let (under, host) = (path("user"), who("host"));
            let node = mandate.import(&shop.authority, &under, &host).await;
            nodes.push(node.unwrap());
            let facts = Facts::at(now()).with_open_checkout("open-1");
            let intent = mandate.intent(&facts, path("user"), who("agent"), now());
            keys.extend(intent.ok().map(|intent| intent.key));
        }
    }
    nodes.dedup();
    keys.dedup();
    assert_eq!((nodes.len(), keys.len()), (1, 1));
    shop.check().await;
}

/// The same chain with the other signature that is as good for the first token: `r` and `n - s`.
fn resigned(whole: &str) -> String {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (jwt, rest) = whole.split_once('~').unwrap();
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let signature = engine.decode(signature).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    assert_ne!(other, signature);
    format!("{message}.{}~{rest}", engine.encode(other.to_bytes()))
}

#[tokio::test]
async fn a_budget_ends_with_its_mandate_and_is_not_opened_again() {
    let shop = Shop::open(POLICY).await;
    let mandate = read(&range(500), &closed(500, "USD")).unwrap();
    let node = mandate
        .import(&shop.authority, &path("user"), &who("host"))
        .await
        .unwrap();
    let spend = |key| {
        let intent = shop.intent(key, node.as_str(), "1.00 USD");
        shop.authority.authorize(intent)
    };
    let held = spend("k").await.unwrap();
    assert!(matches!(held, Authorization::Held { .. }));
    // It holds for an hour.
    shop.wait(3_599);
    assert_eq!(sweep(&shop.authority, 10).await.unwrap(), 0);
    shop.wait(1);
    assert_eq!(sweep(&shop.authority, 10).await.unwrap(), 1);
    assert_eq!(sweep(&shop.authority, 10).await.unwrap(), 0);
    for _ in 0..2 {
        let late = shop.intent("k2", node.as_str(), "1.00 USD");
        assert_eq!(shop.denied(&late).await, "revoked");
        let (under, host) = (path("user"), who("host"));
        let again = mandate.import(&shop.authority, &under, &host).await;
        assert_eq!(again.unwrap(), node);
    }
    shop.check().await;
}

/// An earlier version did not write down when a mandate ends.
#[tokio::test]
async fn mandates_of_which_no_end_is_known_are_closed_until_they_are_imported_again() {
    let shop = Shop::open(POLICY).await;
    let import = async |n| {
        let mandate = read(&range(500 + n), &closed(500, "USD")).unwrap();
        let (under, host) = (path("user"), who("host"));
        mandate
            .import(&shop.authority, &under, &host)
            .await
            .unwrap()
    };
    let mut nodes = Vec::new();
    for n in 0..4 {
        nodes.push(import(n).await);
    }
    let earlier = "DROP INDEX pay_ap2_node_unsure; ALTER TABLE pay_ap2_node DROP COLUMN state; \
                   UPDATE pay_ap2_node SET ends_ms = NULL; \
                   DELETE FROM core_migration WHERE layer = 'pay_ap2' AND version = 3";
    let write = |tx: &mut agent_core::store::Tx<'_>| {
        tx.sql().execute_batch(earlier).unwrap();
        Ok::<_, agent_pay::Error>(())
    };
    shop.authority.db().write(write).await.unwrap();
    // One was stopped by hand, and one comes again before anybody sweeps.
    shop.authority.revoke(nodes[1].clone(), true).await.unwrap();
    assert_eq!(import(2).await, nodes[2]);
    let is_open = async |n: usize, key: &str| {
        let intent = shop.intent(key, nodes[n].as_str(), "0.10 USD");
        let answer = shop.authorize(&intent).await;
        !matches!(answer, Authorization::Denied(refusal) if refusal.code == "revoked")
    };
    assert!(is_open(0, "a").await);
    assert_eq!(sweep(&shop.authority, 10).await.unwrap(), 2);
    assert_eq!(sweep(&shop.authority, 10).await.unwrap(), 0);
    for (n, expected) in [(0, false), (1, false), (2, true), (3, false)] {
        assert_eq!(is_open(n, &format!("b{n}")).await, expected, "{n}");
    }
    // What was stopped by hand stays so; the other is open until its end, and no longer.
    for n in [0, 1] {
        import(i64::try_from(n).unwrap()).await;
        assert_eq!(is_open(n, &format!("c{n}")).await, n == 0);
    }
    shop.wait(3_600);
    assert_eq!(sweep(&shop.authority, 10).await.unwrap(), 2);
    for n in [0, 2, 3] {
        import(i64::try_from(n).unwrap()).await;
        assert!(!is_open(n, &format!("d{n}")).await, "{n}");
    }
    shop.check().await;
}
