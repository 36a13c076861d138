//! The index of keys has a number of 48 bits for each; what has the same number is told apart.

use agent_core::{Asset, Classify, Digest, ErrorKind};
use agent_pay::authority::SpendState;
use agent_pay::{AccountName, Batch, Entry, Guard, Ledger};

use crate::common::{Shop, money, op};

/// Keys whose digests begin with the same 48 bits; found by trying forty million.
const SAME_NUMBER: [[&str; 2]; 3] = [
    ["key-8824335", "key-25858498"],
    ["key-15966940", "key-37717408"],
    ["key-10075577", "key-16278330"],
];
const POLICY: &str = "[node.acme]\nlimits = [\"100.00 USD lifetime\"]\nfirst_payee = \"allow\"";

#[tokio::test]
async fn spends_whose_keys_have_one_number_are_told_apart() {
    let shop = Shop::open(POLICY).await;
    for [one, other] in SAME_NUMBER {
        shop.held(&shop.intent(one, "acme", "2.00 USD")).await;
        assert_eq!(shop.authority.spend(op(other)).await.unwrap(), None);
        let missing = shop.authority.capture(op(other), money("1.00 USD"));
        assert_eq!(missing.await.unwrap_err().kind(), ErrorKind::NotFound);
        let second = shop.held(&shop.intent(other, "acme", "3.00 USD")).await;
        assert_eq!(second.key, op(other));
        shop.capture(one, "1.50 USD").await;
        let used = shop
            .authority
            .authorize(shop.intent(one, "acme", "3.00 USD"));
        assert_eq!(used.await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let shop = shop.restart().await;
    for [one, other] in SAME_NUMBER {
        let state = async |key| {
            let spend = shop.authority.spend(op(key)).await.unwrap().unwrap();
            (spend.state, spend.amount)
        };
        let expected = (SpendState::Captured, money("2.00 USD"));
        assert_eq!(state(one).await, expected);
        let expected = (SpendState::Held, money("3.00 USD"));
        assert_eq!(state(other).await, expected);
    }
    shop.check().await;
}

#[tokio::test]
async fn batches_whose_keys_have_one_number_are_told_apart() {
    let shop = Shop::open(POLICY).await;
    let name = |text: &str| AccountName::new(text).unwrap();
    for (n, key) in SAME_NUMBER.as_flattened().iter().enumerate() {
        let account = name(&format!("account-{n}"));
        let open = Entry::open(Asset::USD, account, Guard::Unguarded);
        let batch = Batch::new(op(key), vec![open]);
        let posted = shop.ledger.post(batch.clone()).await.unwrap();
        let again = shop.ledger.post(batch).await.unwrap();
        assert_eq!(again.seq, posted.seq);
        let found = shop.ledger.find(op(key)).await.unwrap().unwrap();
        assert_eq!(found.receipt.seq, posted.seq);
    }
    shop.check().await;
}

/// Keys the authority itself makes are keys as any other: whoever took one before has it.
#[tokio::test]
async fn a_key_is_of_one_batch_also_where_the_authority_made_it() {
    let shop = Shop::open(POLICY).await;
    shop.held(&shop.intent("spend", "acme", "1.00 USD")).await;
    let part = format!("agent-pay.part/1/{}", Digest::of_bytes(b"spend"));
    let account = AccountName::new("other").unwrap();
    let open = Entry::open(Asset::USD, account, Guard::Unguarded);
    let taken = Batch::new(op(&part), vec![open]);
    shop.ledger.post(taken).await.unwrap();
    let more = shop.authority.top_up(op("spend"), 1, money("1.00 USD"));
    assert_eq!(more.await.unwrap_err().kind(), ErrorKind::Conflict);
    shop.check().await;
}
