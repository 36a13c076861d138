//! What the spend authority allows, asks and denies.

use crate::common::planted::Bug;
use crate::common::{Shop, TREE, money, op, path, who};
use agent_core::{Asset, Classify, ErrorKind};
use agent_pay::authority::{
    Authorization, Origin, Payee, Policy, PolicyBook, PriceBasis, Remedy, SpendState,
};
use agent_pay::{Budgets, OpenBudget};

pub(crate) async fn one_agent_spends_alone_up_to_its_line_and_another_always_asks(
    bug: Option<Bug>,
) {
    let shop = Shop::with(bug, TREE).await;
    let hold = shop
        .held(&shop.intent("k1", "acme/team/a", "5.00 USD"))
        .await;
    assert_eq!(
        (hold.amount, hold.state),
        (money("5.00 USD"), SpendState::Held)
    );
    let request = shop
        .asked(&shop.intent("k2", "acme/team/a", "5.01 USD"))
        .await;
    assert_eq!(request.reasons(), "acme/team/a: above_alone 5.00 USD");
    assert_eq!(request.approvers, [who("human:alice")]);
    let request = shop
        .asked(&shop.intent("k3", "acme/team/b", "0.01 USD"))
        .await;
    assert_eq!(request.node, path("acme"));
    shop.check().await;
}

pub(crate) async fn every_level_counts_and_the_one_that_is_short_is_named(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    let denied = shop
        .authorize(&shop.intent("k0", "acme/team", "40.01 USD"))
        .await;
    let Authorization::Denied(refusal) = denied else {
        return assert!(matches!(denied, Authorization::Denied(_)));
    };
    assert_eq!(refusal.code, "over_transaction");
    assert_eq!(
        refusal.rule.to_string(),
        "acme: over_transaction 40.00 USD per_transaction"
    );
    shop.held(&shop.intent("k1", "acme/team", "40.00 USD"))
        .await;
    assert_eq!(
        shop.denied(&shop.intent("k2", "acme/team", "10.01 USD"))
            .await,
        "over_limit"
    );
    shop.held(&shop.intent("k3", "acme/team", "10.00 USD"))
        .await;
    // The organisation has 50 left, the team nothing.
    assert_eq!(
        shop.denied(&shop.intent("k4", "acme/team/a", "0.01 USD"))
            .await,
        "over_limit"
    );
    shop.held(&shop.intent("k5", "acme", "40.00 USD")).await;
    // What is not spent is free again, on every level.
    shop.authority
        .capture(op("k1"), money("15.00 USD"))
        .await
        .unwrap();
    shop.authority.release(op("k3")).await.unwrap();
    shop.held(&shop.intent("k6", "acme/team", "35.00 USD"))
        .await;
    assert_eq!(
        shop.denied(&shop.intent("k7", "acme/team", "0.01 USD"))
            .await,
        "over_limit"
    );
    shop.check().await;
}

pub(crate) async fn what_is_unknown_is_asked_or_denied(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    let good = shop.intent("k", "acme/team/a", "1.00 USD");
    let unknown_price = good.clone().with_basis(PriceBasis::Unknown);
    assert!(
        shop.asked(&unknown_price)
            .await
            .reasons()
            .contains("price_unknown")
    );
    for origin in [Origin::ToolOutput, Origin::Model] {
        let mut tainted = good.clone();
        tainted.payee = Payee::new("shop:tea", origin);
        assert!(
            shop.asked(&tainted)
                .await
                .reasons()
                .contains("payee_tainted")
        );
    }
    let mut euro = good.clone();
    euro.amount_max = money("1.00 EUR");
    assert_eq!(shop.denied(&euro).await, "asset_unknown");
    let nowhere = shop.intent("k", "acme/team/c", "1.00 USD");
    assert_eq!(shop.denied(&nowhere).await, "node_unknown");
    let elsewhere = shop.intent("k", "other", "1.00 USD");
    assert_eq!(shop.denied(&elsewhere).await, "node_unknown");
    let mut late = good.clone();
    late.expires_at = shop.now();
    assert_eq!(shop.denied(&late).await, "expiry_passed");
    shop.held(&good).await;
    shop.check().await;
}

pub(crate) async fn lists_narrow_on_every_level(bug: Option<Bug>) {
    let shop = Shop::with(
        bug,
        r#"
[node.acme]
limits = ["9.00 USD lifetime", "900 JPY/0 lifetime"]
payees = ["shop:*"]
first_payee = "allow"
[node."acme/a"]
payees = ["shop:t*"]
categories = ["food"]
rails = ["internal", "x402"]
assets = ["USD"]
"#,
    )
    .await;
    let good = shop.intent("k", "acme/a", "1.00 USD").with_category("food");
    let mut other = good.clone();
    other.payee.name = "shop:coffee".to_owned();
    assert_eq!(shop.denied(&other).await, "payee_not_listed");
    other.payee.name = "Shop:tea".to_owned();
    assert_eq!(shop.denied(&other).await, "payee_not_listed");
    assert_eq!(
        shop.denied(&good.clone().with_category("toys")).await,
        "category_not_listed"
    );
    let mut none = good.clone();
    none.category = None;
    assert_eq!(shop.denied(&none).await, "category_not_listed");
    assert_eq!(
        shop.denied(&good.clone().with_rail("stripe")).await,
        "rail_not_listed"
    );
    let mut yen = good.clone();
    yen.amount_max = money("5 JPY/0");
    assert_eq!(shop.denied(&yen).await, "asset_not_listed");
    shop.held(&good).await;
    shop.check().await;
}

pub(crate) async fn first_payment_to_a_payee_is_asked_or_denied_until_it_is_known(
    bug: Option<Bug>,
) {
    let shop = Shop::with(
        bug,
        r#"
[node.acme]
limits = ["9.00 USD lifetime"]
approvers = ["human:alice"]
[node."acme/strict"]
first_payee = "deny"
"#,
    )
    .await;
    let first = shop.intent("k1", "acme", "1.00 USD");
    assert_eq!(shop.asked(&first).await.reasons(), "acme: first_payee");
    let strict = shop.intent("k2", "acme/strict", "1.00 USD");
    assert_eq!(shop.denied(&strict).await, "first_payee");
    let trust = shop
        .authority
        .trust_payee(path("acme"), "shop:tea".to_owned());
    trust.await.unwrap();
    shop.held(&first).await;
    shop.held(&strict).await;
    shop.check().await;
}

pub(crate) async fn revoked_nodes_and_the_kill_switch_stop_at_once_and_reversibly(
    bug: Option<Bug>,
) {
    let shop = Shop::with(bug, TREE).await;
    let held = shop.intent("k0", "acme/team/a", "1.00 USD");
    shop.held(&held).await;
    let next = shop.intent("k1", "acme/team/a", "1.00 USD");
    shop.authority
        .revoke(path("acme/team"), true)
        .await
        .unwrap();
    assert_eq!(shop.denied(&next).await, "revoked");
    let top_up = shop
        .authority
        .top_up(op("k0"), 1, money("1.00 USD"))
        .await
        .unwrap();
    assert!(matches!(top_up, Authorization::Denied(refusal) if refusal.code == "revoked"));
    // The work that was paid for is done: it is captured.
    shop.authority
        .capture(op("k0"), money("1.00 USD"))
        .await
        .unwrap();
    shop.authority
        .revoke(path("acme/team"), false)
        .await
        .unwrap();
    shop.authority.halt(true, who("human:alice")).await.unwrap();
    assert_eq!(shop.denied(&next).await, "halted");
    let shop = shop.restart().await;
    assert_eq!(shop.denied(&next).await, "halted");
    shop.authority
        .halt(false, who("human:alice"))
        .await
        .unwrap();
    shop.held(&next).await;
    let unknown = shop
        .authority
        .revoke(path("acme/x"), true)
        .await
        .unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    shop.check().await;
}

pub(crate) async fn delegated_nodes_only_narrow(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    let a = path("acme/team/a");
    let child = a.child("task").unwrap();
    let limit = |text: &str| Policy::new().with_limit(text.parse().unwrap());
    let delegate = |node, policy| shop.authority.delegate(node, policy, who("agent_a"));
    let wider = Policy::new().with_alone_up_to(money("5.01 USD"));
    assert_eq!(
        delegate(child.clone(), wider).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let friends = Policy::new().with_approvers(vec![who("agent_friend")], 1);
    assert_eq!(
        delegate(child.clone(), friends).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let team = delegate(path("acme/team/c"), limit("50.01 USD lifetime")).await;
    assert_eq!(team.unwrap_err().kind(), ErrorKind::Invalid);
    let orphan = delegate(path("acme/none/x"), Policy::new())
        .await
        .unwrap_err();
    assert_eq!(orphan.kind(), ErrorKind::NotFound);
    delegate(child.clone(), limit("2.00 USD lifetime"))
        .await
        .unwrap();
    shop.held(&shop.intent("k1", "acme/team/a/task", "2.00 USD"))
        .await;
    assert_eq!(
        shop.denied(&shop.intent("k2", "acme/team/a/task", "0.01 USD"))
            .await,
        "over_limit"
    );
    shop.authority.revoke(child, true).await.unwrap();
    assert_eq!(
        shop.denied(&shop.intent("k3", "acme/team/a/task", "0 USD"))
            .await,
        "revoked"
    );
    shop.held(&shop.intent("k4", "acme/team/a", "1.00 USD"))
        .await;
    shop.check().await;
}

pub(crate) async fn budget_that_was_opened_without_a_policy_limits_too(bug: Option<Bug>) {
    let shop = Shop::with(bug, TREE).await;
    let budgets = Budgets::new(std::sync::Arc::new(shop.ledger.clone()));
    let open = OpenBudget::new(path("acme/team/a"), money("1.00 USD"));
    budgets.open(open).await.unwrap();
    assert_eq!(
        shop.denied(&shop.intent("k1", "acme/team/a", "1.01 USD"))
            .await,
        "over_limit"
    );
    shop.held(&shop.intent("k1", "acme/team/a", "1.00 USD"))
        .await;
    let balance = budgets
        .balance(Asset::USD, path("acme/team"))
        .await
        .unwrap();
    assert_eq!(balance.held, money("1.00 USD"));
}

pub(crate) async fn policy_errors_name_line_key_and_remedy(bug: Option<Bug>) {
    let cases: [(&str, u32, &str); 9] = [
        ("[node.acme]\nlimit = []", 2, "node.\"acme\".limit"),
        (
            "[node.acme]\n\nlimits = [\"9 USD dayly\"]",
            3,
            "node.\"acme\".limits",
        ),
        (
            "[node.acme]\nlimits = [\"-9 USD day\"]",
            2,
            "node.\"acme\".limits",
        ),
        (
            "[node.acme]\nlimits = [\"9 USD day\", \"8 USD day\"]",
            2,
            "node.\"acme\".limits",
        ),
        (
            "[node.acme]\nalone_up_to = 5.0",
            2,
            "node.\"acme\".alone_up_to",
        ),
        (
            "[node.acme]\nfirst_payee = \"maybe\"",
            2,
            "node.\"acme\".first_payee",
        ),
        (
            "[node.acme]\nquorum = 2\napprovers = [\"human:a\"]",
            2,
            "node.\"acme\".quorum",
        ),
        ("[node.acme]\n[node.\"acme/x/y\"]", 2, "node.\"acme/x/y\""),
        ("[node.acme]\npayees = [\"a*b\"]", 2, "node.\"acme\".payees"),
    ];
    for (text, line, key) in cases {
        let mut error = text.parse::<PolicyBook>().unwrap_err();
        error.line = error.line.filter(|_| bug != Some(Bug::ForgetsLines));
        assert_eq!(
            (error.line, error.key.as_str()),
            (Some(line), key),
            "{text}: {error}"
        );
        let is_written = match &error.remedy {
            Remedy::Write(form) => form.len() > 10,
            Remedy::Add(table) => table == "[node.\"acme/x\"]",
            _ => false,
        };
        assert!(is_written, "{error}");
    }
    let broken = "[node".parse::<PolicyBook>().unwrap_err();
    assert_eq!(broken.line, Some(1));
}
