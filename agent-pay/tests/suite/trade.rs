//! Quotes, vouchers, receipts and escrow between agents.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{Shop, money, op, path, who};
use agent_core::{Amount, Asset, Classify, Digest, ErrorKind, Principal};
use agent_pay::authority::{Authorization, Movement, Origin, SpendState};
use agent_pay::backend::sqlite::authority as spend;
use agent_pay::rail::{Internal, Payer};
use agent_pay::signed::{SignKey, VerifyKey};
use agent_pay::trade::{Channel, Escrow, Quote, ReceiptChain, ReceiptDraft, Voucher};
use agent_pay::{AccountName, Batch, Entry, Error, Guard, Ledger, LedgerExt};
use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};

#[derive(Debug)]
struct Key(String, SigningKey);

impl SignKey for Key {
    fn key_id(&self) -> String {
        self.0.clone()
    }

    fn algorithm(&self) -> &'static str {
        "EdDSA"
    }

    fn sign(&self, message: &[u8]) -> agent_pay::Result<Vec<u8>> {
        Ok(self.1.sign(message).to_bytes().to_vec())
    }
}

#[derive(Debug)]
struct Keys(BTreeMap<String, VerifyingKey>);

impl VerifyKey for Keys {
    fn verify(&self, key_id: &str, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let (Some(key), Ok(signature)) = (self.0.get(key_id), signature.try_into()) else {
            return false;
        };
        algorithm == "EdDSA" && key.verify(message, &signature).is_ok()
    }
}

fn keys() -> (Key, Key, Keys) {
    let key = |name: &str, seed| Key(name.to_owned(), SigningKey::from_bytes(&[seed; 32]));
    let (seller, buyer) = (key("agent_seller", 1), key("agent_buyer", 2));
    let known = [&seller, &buyer].map(|key| (key.0.clone(), key.1.verifying_key()));
    (seller, buyer, Keys(BTreeMap::from(known)))
}

const POLICY: &str = r#"
[node.acme]
limits = ["100.00 USD lifetime"]
first_payee = "allow"
approvers = ["human:alice"]
[node."acme/buyer"]
alone_up_to = "20.00 USD"
"#;

fn name(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

/// Opens purses of buyer and seller; the buyer's has 50.
async fn market() -> Shop {
    let shop = Shop::open(POLICY).await;
    let guard = Guard::DebitsMustNotExceedCredits;
    let entries = vec![
        Entry::open(Asset::USD, name("bank"), Guard::Unguarded),
        Entry::open(Asset::USD, name("purse/buyer"), guard),
        Entry::open(Asset::USD, name("purse/seller"), guard),
        Entry::post(name("bank"), name("purse/buyer"), money("50.00 USD")),
    ];
    shop.ledger
        .post(Batch::new(op("setup"), entries))
        .await
        .unwrap();
    shop
}

fn movement() -> Movement {
    Movement::new(name("purse/buyer"), name("purse/seller"))
}

async fn purse(shop: &Shop, account: &str) -> Amount {
    let account = shop
        .ledger
        .account(Asset::USD, name(account))
        .await
        .unwrap();
    account
        .credits_posted()
        .minus(account.debits_posted())
        .unwrap()
}

fn quote(shop: &Shop, amount: &str) -> Quote {
    let until = shop.now().after(std::time::Duration::from_secs(60));
    Quote::new(
        "q1",
        who("agent_seller"),
        who("agent_buyer"),
        "a map",
        money(amount),
        until,
    )
}

#[tokio::test]
async fn signed_quote_is_held_worked_for_captured_and_receipted() {
    let (shop, (seller, _buyer, keys)) = (market().await, keys());
    let token = quote(&shop, "9.00 USD").sign(&seller).unwrap();
    let quote = Quote::verify(&token, &keys, &who("agent_buyer"), shop.now()).unwrap();
    let until = shop.now().after(std::time::Duration::from_secs(600));
    let intent = quote.intent(op("k"), path("acme/buyer"), movement(), until);
    assert_eq!(
        (intent.payee.origin, intent.amount_max),
        (Origin::SignedOffer, money("9.00 USD"))
    );
    shop.held(&intent).await;
    assert_eq!(purse(&shop, "purse/seller").await, money("0 USD"));
    shop.capture("k", "7.50 USD").await;
    assert_eq!(purse(&shop, "purse/seller").await, money("7.50 USD"));
    let mut issued = ReceiptChain::default();
    let draft = |amount: &str| {
        let execution = Digest::of_bytes(b"the map");
        let draft = ReceiptDraft::new(
            op("k"),
            who("agent_seller"),
            money(amount),
            execution,
            shop.now(),
        );
        draft.with_quote(quote.digest)
    };
    let tokens: Vec<_> = ["7.50 USD", "1.00 USD", "2.00 USD"]
        .map(|amount| issued.issue(draft(amount), &seller).unwrap())
        .into();
    let mut chain = ReceiptChain::default();
    for token in &tokens {
        chain.check(token, &keys).unwrap();
    }
    assert_eq!(chain, issued);
    // A receipt left out, or told twice, breaks the chain.
    let mut chain = ReceiptChain::default();
    chain.check(tokens.first().unwrap(), &keys).unwrap();
    assert_eq!(
        chain
            .check(tokens.last().unwrap(), &keys)
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(
        chain
            .check(tokens.first().unwrap(), &keys)
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
    // What was paid can be given back, from the seller's purse.
    shop.authority
        .refund(op("k"), op("r"), money("7.50 USD"))
        .await
        .unwrap();
    assert_eq!(purse(&shop, "purse/buyer").await, money("50.00 USD"));
    shop.check().await;
}

#[tokio::test]
async fn empty_purse_denies_and_nothing_moves() {
    let (shop, (seller, _buyer, keys)) = (market().await, keys());
    let until = shop.now().after(std::time::Duration::from_secs(600));
    for (n, amount) in ["20.00 USD", "20.00 USD", "10.01 USD"]
        .into_iter()
        .enumerate()
    {
        let token = quote(&shop, amount).sign(&seller).unwrap();
        let quote = Quote::verify(&token, &keys, &who("agent_buyer"), shop.now()).unwrap();
        let intent = quote.intent(op(&format!("k{n}")), path("acme/buyer"), movement(), until);
        if n < 2 {
            shop.held(&intent).await;
        } else {
            assert_eq!(shop.denied(&intent).await, "insufficient_funds");
        }
    }
    shop.check().await;
}

#[tokio::test]
async fn forged_foreign_and_late_quotes_are_refused() {
    let (shop, (seller, buyer, keys)) = (market().await, keys());
    let check = |token: &str| Quote::verify(token, &keys, &who("agent_buyer"), shop.now());
    let token = quote(&shop, "9.00 USD").sign(&seller).unwrap();
    check(&token).unwrap();
    // Signed by the buyer itself, in the seller's name.
    let forged = quote(&shop, "9.00 USD").sign(&buyer).unwrap();
    assert!(matches!(check(&forged), Err(Error::BadSignature { .. })));
    let other = Quote::verify(&token, &keys, &who("agent_x"), shop.now()).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Invalid);
    // A voucher does not pass for a quote, nor half a token for a whole one.
    let voucher = Voucher::new(op("k"), who("agent_buyer"), money("1.00 USD"))
        .sign(&buyer)
        .unwrap();
    assert_eq!(check(&voucher).unwrap_err().kind(), ErrorKind::Invalid);
    for n in 0..token.len() {
        assert!(check(token.get(..n).unwrap()).is_err());
        let mut bytes = token.clone().into_bytes();
        bytes[n] = if bytes[n] == b'A' { b'B' } else { b'A' };
        let broken = String::from_utf8(bytes).unwrap();
        assert!(check(&broken).is_err(), "byte {n}");
    }
    shop.wait(60);
    assert_eq!(check(&token).unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn vouchers_only_grow_and_never_beyond_what_is_held() {
    let (shop, (seller, buyer, keys)) = (market().await, keys());
    let mut intent = shop
        .intent("k", "acme/buyer", "2.00 USD")
        .with_movement(movement());
    intent.actor = who("agent_buyer");
    shop.held(&intent).await;
    let mut channel = Channel::new(op("k"), who("agent_buyer"), money("2.00 USD"));
    let voucher = |key: &Key, spend: &str, amount: &str| {
        Voucher::new(op(spend), who("agent_buyer"), money(amount))
            .sign(key)
            .unwrap()
    };
    let mut accept = |token: String| channel.accept(&token, &keys);
    assert_eq!(
        accept(voucher(&buyer, "k", "0.50 USD")).unwrap(),
        money("0.50 USD")
    );
    assert_eq!(
        accept(voucher(&buyer, "k", "1.75 USD")).unwrap(),
        money("1.25 USD")
    );
    assert_eq!(
        accept(voucher(&buyer, "k", "0.50 USD")).unwrap(),
        money("0 USD")
    );
    assert!(matches!(
        accept(voucher(&buyer, "k", "2.01 USD")),
        Err(Error::ExceedsHold { .. })
    ));
    assert!(accept(voucher(&seller, "k", "1.80 USD")).is_err());
    assert!(accept(voucher(&buyer, "k2", "1.80 USD")).is_err());
    let more = shop
        .authority
        .top_up(op("k"), 1, money("1.00 USD"))
        .await
        .unwrap();
    assert!(matches!(more, Authorization::Held { .. }));
    channel.top_up(money("1.00 USD")).unwrap();
    assert_eq!(
        channel
            .accept(&voucher(&buyer, "k", "2.50 USD"), &keys)
            .unwrap(),
        money("0.75 USD")
    );
    let done = shop
        .authority
        .capture(op("k"), channel.promised)
        .await
        .unwrap();
    assert_eq!(done.captured, money("2.50 USD"));
    assert_eq!(purse(&shop, "purse/seller").await, money("2.50 USD"));
    assert_eq!(purse(&shop, "purse/buyer").await, money("47.50 USD"));
    shop.check().await;
}

fn parties(milestones: &[&str]) -> Escrow {
    let milestones = milestones.iter().map(|amount| money(amount)).collect();
    let [buyer, seller, arbiter] = ["agent_buyer", "agent_seller", "human:judge"].map(who);
    Escrow::new(buyer, seller, arbiter, milestones).unwrap()
}

async fn open(shop: &Shop, key: &str, escrow: Escrow) -> agent_pay::Result<Vec<Authorization>> {
    let mut intent = shop
        .intent(key, "acme/buyer", "0 USD")
        .with_movement(movement());
    intent.actor = escrow.buyer.clone();
    intent.payee.name = escrow.seller.as_str().to_owned();
    let cache = Arc::clone(shop.authority.cache());
    let db = shop.authority.db();
    db.write(move |tx| spend::open_escrow(tx, &cache, &intent, &escrow))
        .await
}

#[tokio::test]
async fn escrow_holds_every_milestone_or_none() {
    let shop = market().await;
    let held = open(&shop, "e1", parties(&["5.00 USD", "6.00 USD"]))
        .await
        .unwrap();
    assert_eq!(held.len(), 2);
    // Of the second escrow nothing is held: its last part needs somebody.
    let refused = open(&shop, "e2", parties(&["5.00 USD", "20.01 USD"]))
        .await
        .unwrap();
    assert!(matches!(
        refused.as_slice(),
        [Authorization::NeedsApproval(_)]
    ));
    let part = shop.authority.spend(op("e2/m0")).await.unwrap().unwrap();
    assert_eq!(part.state, SpendState::Released);
    let other = open(&shop, "e1", parties(&["5.00 USD"])).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    let (a, b) = (who("a"), who("b"));
    assert!(Escrow::new(a.clone(), b, a, vec![money("1 USD")]).is_err());
    shop.check().await;
}

#[tokio::test]
async fn escrow_pays_by_milestone_and_the_arbiter_splits_a_dispute() {
    let shop = market().await;
    let escrow = parties(&["5.00 USD", "6.00 USD", "7.00 USD"]);
    let (buyer, seller) = (escrow.buyer.clone(), escrow.seller.clone());
    let arbiter = escrow.arbiter.clone();
    open(&shop, "e1", escrow).await.unwrap();
    let db = shop.authority.db();
    let accept = |n, by: &Principal| {
        let by = by.clone();
        db.write(move |tx| spend::accept_milestone(tx, &op("e1"), n, &by))
    };
    let dispute = |n, by: &Principal| {
        let by = by.clone();
        db.write(move |tx| spend::dispute_milestone(tx, &op("e1"), n, &by))
    };
    let decide = |by: &Principal, amount: &str| {
        let (by, amount) = (by.clone(), money(amount));
        db.write(move |tx| spend::decide_milestone(tx, &op("e1"), 1, &by, amount))
    };
    let denied = |error: Error| assert_eq!(error.kind(), ErrorKind::Denied);
    denied(accept(0, &seller).await.unwrap_err());
    assert_eq!(accept(0, &buyer).await.unwrap().captured, money("5.00 USD"));
    denied(dispute(1, &arbiter).await.unwrap_err());
    let early = decide(&arbiter, "1.00 USD").await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::NotFound);
    dispute(1, &seller).await.unwrap();
    denied(accept(1, &buyer).await.unwrap_err());
    // What is in dispute outlives its deadline; the last milestone does not.
    shop.wait(10_000);
    shop.authority.sweep(100).await.unwrap();
    denied(decide(&buyer, "0 USD").await.unwrap_err());
    assert_eq!(
        decide(&arbiter, "4.00 USD").await.unwrap().captured,
        money("4.00 USD")
    );
    assert_eq!(
        accept(2, &buyer).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(purse(&shop, "purse/seller").await, money("9.00 USD"));
    assert_eq!(purse(&shop, "purse/buyer").await, money("41.00 USD"));
    shop.check().await;
}

/// Both are called `internal`: the ledger's own rail, and what escrow holds by itself.
#[tokio::test]
async fn a_payer_leaves_what_is_in_dispute_to_its_arbiter() {
    let shop = market().await;
    let escrow = parties(&["5.00 USD"]);
    let (seller, arbiter) = (escrow.seller.clone(), escrow.arbiter.clone());
    open(&shop, "e1", escrow).await.unwrap();
    let db = shop.authority.db();
    db.write(move |tx| spend::dispute_milestone(tx, &op("e1"), 0, &seller))
        .await
        .unwrap();
    let purse = AccountName::new("purse/buyer").unwrap();
    let rail = Internal::new(Arc::new(shop.ledger.clone()), purse);
    let payer = Payer::new(shop.authority.clone(), Arc::new(rail));
    assert_eq!(payer.reconcile(10).await.unwrap(), 0);
    let amount = money("4.00 USD");
    let decided = db.write(move |tx| spend::decide_milestone(tx, &op("e1"), 0, &arbiter, amount));
    assert_eq!(decided.await.unwrap().captured, money("4.00 USD"));
    shop.check().await;
}
