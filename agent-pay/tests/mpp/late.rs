//! A buyer who asks after the server forgot what it said: both books say the same, as they do when
//! nothing was forgotten.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env, ManualClock, SeededEntropy, Timestamp};
use agent_pay::authority::{Intent, SpendState};
use agent_pay::mpp::{Credential, Fetched, Offer, Order, Purged, Sale, Verdict};
use agent_pay::rail::Paid;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;

use crate::buyer::{Deaf, intent, spent};
use crate::common::{NOON_MS, money, op, who};
use crate::market::{Market, challenges, get, key, pay, problem, with};
use crate::seller::manual;
use crate::session::{act, opened, voucher};

const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);
const PRICE: &str = "0.00001 USD";

/// Forgets what may be forgotten.
async fn purge(market: &Market) -> Purged {
    market.server.purge(Duration::ZERO, 100).await.unwrap()
}

/// Buys tea and hears nothing of it.
async fn pay_unheard(market: &Market) -> Intent {
    let deaf = Arc::new(Deaf::new(&market.transport, 1));
    let shopper = market.shopper(deaf).await;
    let wanted = intent(market, "k", "/tea", "0.50 USD");
    let paid = shopper.fetch(get(&market.at("/tea")), wanted.clone()).await;
    let lost = matches!(paid.unwrap(), Fetched::NotBought(Paid::Unknown { .. }));
    assert!(lost);
    wanted
}

#[tokio::test]
async fn a_payment_whose_answer_was_lost_is_booked_though_the_seller_forgot_it() {
    for forgets in [false, true] {
        let (clock, env) = manual();
        let market = Market::open(env).await;
        let wanted = pay_unheard(&market).await;
        clock.advance(DAY + MS);
        if forgets {
            assert_eq!(purge(&market).await.n_charges, 1);
        }
        let shopper = market.shopper(Arc::clone(&market.transport)).await;
        assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
        let captured = Some((SpendState::Captured, money(PRICE)));
        assert_eq!(spent(&market, "k").await, captured);
        assert_eq!(market.sales().await, (money(PRICE), money("0 USD")));
        // What was bought is given again if it is kept, and nothing else in its place.
        let again = shopper.fetch(get(&market.at("/tea")), wanted).await;
        let Fetched::Bought { answer, .. } = again.unwrap() else {
            panic!("not bought");
        };
        let body = answer.map(http::Response::into_body);
        assert_eq!(body, (!forgets).then(|| b"run 1".to_vec()));
        assert_eq!(market.runs(), 1);
        market.close().await;
    }
}

#[tokio::test]
async fn a_payment_that_did_not_buy_is_free_though_the_seller_forgot_it() {
    for forgets in [false, true] {
        let (clock, env) = manual();
        let market = Market::open(env).await;
        let deaf = Arc::new(Deaf::new(&market.transport, 1));
        let shopper = market.shopper(deaf).await;
        let wanted = intent(&market, "k", "/missing", "0.50 USD");
        let paid = shopper.fetch(get(&market.at("/missing")), wanted).await;
        let lost = matches!(paid.unwrap(), Fetched::NotBought(Paid::Unknown { .. }));
        assert!(lost);
        clock.advance(DAY + MS);
        if forgets {
            assert_eq!(purge(&market).await.n_charges, 1);
        }
        assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
        let released = Some((SpendState::Released, money("0 USD")));
        assert_eq!(spent(&market, "k").await, released);
        assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
        market.close().await;
    }
}

#[tokio::test]
async fn a_refund_whose_answer_was_lost_is_booked_though_the_seller_forgot_the_payment() {
    for forgets in [false, true] {
        let (clock, env) = manual();
        let market = Market::open(env).await;
        let shopper = market.shopper(Arc::clone(&market.transport)).await;
        let wanted = intent(&market, "k", "/tea", "0.50 USD");
        let bought = shopper.fetch(get(&market.at("/tea")), wanted).await;
        assert!(matches!(bought.unwrap(), Fetched::Bought { .. }));
        let deaf = Arc::new(Deaf::new(&market.transport, 1));
        let shopper = market.shopper(deaf).await;
        let part = money("0.000004 USD");
        let back = shopper.payer().refund(op("k"), op("r"), part).await;
        assert!(matches!(back.unwrap(), Paid::Unknown { .. }));
        clock.advance(DAY + MS);
        if forgets {
            assert_eq!(purge(&market).await.n_charges, 1);
        }
        assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
        let hold = market.buyer.spend(op("k")).await.unwrap().unwrap();
        assert_eq!((hold.captured, hold.refunded), (money(PRICE), part));
        assert_eq!(market.sales().await.0, money("0.000006 USD"));
        // One that was not given before is not given now.
        let refused = shopper.payer().refund(op("k"), op("r2"), part).await;
        let is_refused = matches!(refused.unwrap(), Paid::Failed(_));
        assert_eq!(is_refused, forgets);
        market.close().await;
    }
}

/// Uses one unit of a session and goes away.
async fn leave_session(market: &Market) {
    let shopper = market.shopper(Arc::clone(&market.transport)).await;
    let request = get(&market.at("/metered"));
    let wanted = intent(market, "s", "/metered", "1.00 USD");
    let stream = shopper.open_session(request.clone(), wanted, money("0.10 USD"));
    let mut stream = stream.await.unwrap();
    stream.fetch(request).await.unwrap();
}

#[tokio::test]
async fn a_session_its_buyer_left_is_booked_though_the_seller_forgot_it() {
    for forgets in [false, true] {
        let (clock, env) = manual();
        let market = Market::open(env).await;
        leave_session(&market).await;
        clock.advance(Duration::from_secs(3_900));
        assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
        clock.advance(DAY + MS);
        if forgets {
            assert_eq!(purge(&market).await.n_sessions, 1);
        }
        let shopper = market.shopper(Arc::clone(&market.transport)).await;
        assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
        let captured = Some((SpendState::Captured, money("0.10 USD")));
        assert_eq!(spent(&market, "s").await, captured);
        assert_eq!(market.sales().await, (money("0.10 USD"), money("0 USD")));
        market.close().await;
    }
}

/// A seller that comes too late has nothing of the deposit, and the buyer books nothing.
#[tokio::test]
async fn a_session_closed_when_its_deposit_was_free_again_cost_nothing() {
    for forgets in [false, true] {
        let (clock, env) = manual();
        let market = Market::open(env).await;
        leave_session(&market).await;
        clock.advance(30 * DAY);
        assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
        market.seller.sweep(100).await.unwrap();
        if forgets {
            assert_eq!(purge(&market).await.n_sessions, 1);
        }
        let shopper = market.shopper(Arc::clone(&market.transport)).await;
        assert_eq!(shopper.payer().reconcile(10).await.unwrap(), 1);
        assert_eq!(spent(&market, "s").await.unwrap().1, money("0 USD"));
        assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
        market.close().await;
    }
}

/// Says something of a challenge as `name` would.
async fn say(market: &Market, about: &Credential, name: &str, order: &Order) -> Verdict {
    let payload = order.payload(&key(name)).unwrap();
    let credential = Credential::new(about.challenge.clone(), None, payload);
    let sale = Sale::new("GET /tea", vec![Offer::Charge(money(PRICE))]);
    let verdict = market.server.present(&credential, &sale, false).await;
    verdict.unwrap()
}

#[tokio::test]
async fn what_is_forgotten_is_told_to_its_buyer_alone() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let bought = pay(&market.challenge("/tea").await, "agent_buyer");
    let request = with(get(&market.at("/tea")), &bought);
    assert_eq!(market.send(request.clone()).await.status(), 200);
    clock.advance(DAY + MS);
    assert_eq!(purge(&market).await.n_charges, 1);
    let id = bought.challenge.id.as_str();
    let orders = |name: &str| {
        let who = who(name);
        [
            Order::pay(id, &who, money(PRICE), "sales"),
            Order::void(id, &who),
        ]
    };
    for order in orders("agent_poor") {
        let told = say(&market, &bought, "agent_poor", &order).await;
        assert!(matches!(told, Verdict::Refused(refused) if !refused.is_final));
    }
    let refund = |name: &str| Order::refund(id, &who(name), op("r"), money(PRICE));
    let told = say(&market, &bought, "agent_poor", &refund("agent_poor")).await;
    assert!(matches!(told, Verdict::Refused(_)));
    // Its buyer is told, each time, and nothing is kept of it again.
    for order in orders("agent_buyer").into_iter().cycle().take(4) {
        let told = say(&market, &bought, "agent_buyer", &order).await;
        let Verdict::Taken(receipt) = told else {
            panic!("{told:?}");
        };
        assert_eq!(receipt.reference, format!("mpp_{id}"));
        assert_eq!(receipt.spent.as_deref(), Some("10"));
    }
    clock.advance(2 * DAY);
    assert_eq!(purge(&market).await, Purged::default());
    assert_eq!(market.runs(), 1);
    assert_eq!(market.sales().await, (money(PRICE), money("0 USD")));
    market.close().await;
}

/// A refund that went back is a secret, too.
#[tokio::test]
async fn a_forgotten_refund_is_told_to_its_buyer_alone() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let bought = pay(&market.challenge("/tea").await, "agent_buyer");
    let request = with(get(&market.at("/tea")), &bought);
    assert_eq!(market.send(request).await.status(), 200);
    let id = bought.challenge.id.as_str();
    let refund = |name: &str| Order::refund(id, &who(name), op("r"), money(PRICE));
    let given = say(&market, &bought, "agent_buyer", &refund("agent_buyer")).await;
    assert!(matches!(given, Verdict::Taken(_)));
    clock.advance(DAY + MS);
    assert_eq!(purge(&market).await.n_charges, 1);
    let told = say(&market, &bought, "agent_poor", &refund("agent_poor")).await;
    assert!(matches!(told, Verdict::Refused(_)));
    let told = say(&market, &bought, "agent_buyer", &refund("agent_buyer")).await;
    assert!(matches!(told, Verdict::Taken(receipt) if receipt.spent.as_deref() == Some("0")));
    assert_eq!(market.sales().await.0, money("0 USD"));
    market.close().await;
}

/// Whoever knows a challenge does not end what somebody else pays for by it.
#[tokio::test]
async fn money_held_for_a_run_without_an_end_is_not_freed_by_a_stranger() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let bought = pay(&market.challenge("/tea").await, "agent_buyer");
    let id = bought.challenge.id.as_str();
    let mine = Order::pay(id, &who("agent_buyer"), money(PRICE), "sales");
    let lost = say(&market, &bought, "agent_buyer", &mine).await;
    assert!(matches!(lost, Verdict::Run(_)));
    clock.advance(Duration::from_secs(130));
    // Whether it was paid is not known yet, so neither is whether it can go back.
    let refund = Order::refund(id, &who("agent_buyer"), op("r"), money(PRICE));
    let told = say(&market, &bought, "agent_buyer", &refund).await;
    assert!(matches!(told, Verdict::Busy { .. }));
    let void = |name: &str| Order::void(id, &who(name));
    let told = say(&market, &bought, "agent_poor", &void("agent_poor")).await;
    assert!(matches!(told, Verdict::Refused(refused) if !refused.is_final));
    assert_eq!(market.sales().await, (money("0 USD"), money(PRICE)));
    let told = say(&market, &bought, "agent_buyer", &void("agent_buyer")).await;
    assert!(matches!(told, Verdict::Refused(refused) if refused.is_final));
    assert_eq!(market.sales().await, (money("0 USD"), money("0 USD")));
    market.close().await;
}

#[tokio::test]
async fn a_forgotten_session_is_told_to_its_buyer_alone() {
    let (clock, env) = manual();
    let market = Market::open(env).await;
    let open = opened(&market).await;
    let id = open.challenge.id.clone();
    let say = |action: &str, sum: &str, name: &str| json!({ "action": action, "channelId": id, "voucher": voucher(&id, sum, name) });
    let used = say("voucher", "0.30 USD", "agent_buyer");
    assert_eq!(act(&market, &open, used).await.status(), 200);
    clock.advance(Duration::from_secs(3_900));
    assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
    clock.advance(DAY + MS);
    assert_eq!(purge(&market).await.n_sessions, 1);
    let unsigned = json!({ "action": "close", "channelId": id });
    for told in [
        act(&market, &open, say("close", "0.30 USD", "agent_poor")).await,
        act(&market, &open, unsigned).await,
    ] {
        let expected = ("session/invalid-signature".to_owned(), false);
        assert_eq!(problem(&told), expected);
    }
    let told = act(&market, &open, say("close", "0.30 USD", "agent_buyer")).await;
    assert_eq!(told.status(), 200);
    let receipt = told.headers()["payment-receipt"].to_str().unwrap();
    let receipt = agent_pay::mpp::Receipt::parse(receipt).unwrap();
    assert_eq!(receipt.spent.as_deref(), Some("100000"));
    assert!(challenges(&told).is_empty());
    market.close().await;
}

/// The clock of a store whose host was set back.
#[derive(Debug)]
struct Reset(Mutex<Arc<ManualClock>>);

#[async_trait]
impl Clock for Reset {
    fn now(&self) -> Timestamp {
        self.0.lock().now()
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().monotonic()
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        let clock = Arc::clone(&*self.0.lock());
        clock.sleep_until(deadline).await;
    }
}

#[tokio::test]
async fn a_forgotten_session_does_not_open_again_when_the_clock_goes_back() {
    let noon = || Arc::new(ManualClock::new(Timestamp::from_unix_ms(NOON_MS)));
    let reset = Arc::new(Reset(Mutex::new(noon())));
    let shared: Arc<dyn Clock> = Arc::<Reset>::clone(&reset);
    let env = Env::new(shared, Arc::new(SeededEntropy::new(1)));
    let market = Market::open(env).await;
    let open = opened(&market).await;
    let id = open.challenge.id.clone();
    let promise = |sum: &str| {
        let voucher = voucher(&id, sum, "agent_buyer");
        json!({ "action": "voucher", "channelId": id, "voucher": voucher })
    };
    let used = act(&market, &open, promise("0.10 USD")).await;
    assert_eq!(used.status(), 200);
    reset.0.lock().advance(Duration::from_secs(4_000));
    assert_eq!(market.server.close_ended(10).await.unwrap(), 1);
    reset.0.lock().advance(2 * DAY);
    assert_eq!(purge(&market).await.n_sessions, 1);
    *reset.0.lock() = noon();
    reset.0.lock().advance(Duration::from_secs(10));
    let reopened = market.send(with(get(&market.at("/metered")), &open)).await;
    assert_eq!(problem(&reopened).0, "session/channel-finalized");
    let more = act(&market, &open, promise("0.20 USD")).await;
    assert_eq!(problem(&more).0, "session/channel-not-found");
    assert_eq!(market.runs(), 1);
    assert_eq!(market.sales().await, (money("0.10 USD"), money("0 USD")));
    market.close().await;
}
