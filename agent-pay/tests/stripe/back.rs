//! Money that goes back by itself: refunds that were heard of, refunds by hand, disputes.

use agent_core::{Classify as _, ErrorKind, Retry};
use agent_pay::rail::{Outcome, Paid, Payer, Payment, Rail};
use agent_pay::stripe::{DisputeStatus, Inbox, Received, StripeRail, Unbooked};
use serde_json::{Value, json};

use crate::common::{Shop, money, op};
use crate::events::{event, webhooks};
use crate::fake_stripe::{FakeStripe, Faults};
use crate::{POLICY, intent, shop_rail};

struct Till {
    shop: Shop,
    rail: StripeRail,
    payer: Payer,
    inbox: Inbox,
    paid: Value,
    fake: std::sync::Arc<FakeStripe>,
}

impl Till {
    /// One where a refund was asked for and its answer was lost.
    async fn that_lost_a_refund(amount: &str) -> Self {
        let till = Self::open().await;
        till.fake.end_after(Some(0));
        let lost = till.payer.refund(op("k"), op("r"), money(amount)).await;
        assert!(matches!(lost, Ok(Paid::Unknown { .. })));
        till.fake.end_after(None);
        till
    }

    /// A payment of five dollars.
    async fn open() -> Self {
        let shop = Shop::open(POLICY).await;
        let fake = FakeStripe::new(Faults::default(), 1);
        let (rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
        let settled = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
        assert!(matches!(settled, Paid::Settled(_)));
        let inbox = Inbox::new(rail.clone(), payer.clone(), webhooks(&shop));
        Self {
            paid: fake.intents()[0].clone(),
            shop,
            rail,
            payer,
            inbox,
            fake,
        }
    }

    async fn hears(&self, id: &str, kind: &str, object: &Value) -> Received {
        let body = event(id, kind, object);
        let signature = webhooks(&self.shop).sign(&body);
        self.inbox.receive(&signature, &body).await.unwrap()
    }

    fn refund(&self, id: &str, amount: i64, status: &str) -> Value {
        json!({
            "id": id, "object": "refund", "amount": amount, "currency": "usd", "status": status,
            "payment_intent": self.paid["id"], "metadata": {},
        })
    }

    fn dispute(&self, amount: i64, status: &str) -> Value {
        json!({
            "id": "dp_1", "object": "dispute", "amount": amount, "currency": "usd",
            "payment_intent": self.paid["id"], "status": status,
        })
    }

    async fn given_back(&self) -> String {
        self.shop.check().await;
        let hold = self.shop.authority.spend(op("k")).await.unwrap().unwrap();
        hold.refunded.to_string()
    }
}

fn is_back(received: &Received) -> bool {
    matches!(received, Received::GivenBack { paid, .. } if matches!(**paid, Paid::Settled(_)))
}

#[tokio::test]
async fn a_refund_by_hand_is_booked_once_and_counts_against_others() {
    let till = Till::open().await;
    let pending = till.refund("re_1", 200, "pending");
    assert_eq!(
        till.hears("evt_1", "refund.created", &pending).await,
        Received::Ignored
    );
    let done = till.refund("re_1", 200, "succeeded");
    // Two kinds of event tell the same.
    for (id, kind) in [
        ("evt_2", "refund.updated"),
        ("evt_3", "charge.refund.updated"),
    ] {
        let received = till.hears(id, kind, &done).await;
        assert!(is_back(&received), "{received:?}");
        assert_eq!(till.given_back().await, "2.00 USD");
    }
    assert_eq!(
        till.hears("evt_2", "refund.updated", &done).await,
        Received::Repeated
    );
    let seen = till.fake.seen().len();
    let more = Payment::new(op("r"), "", money("3.01 USD"));
    let refused = till.rail.refund(op("k"), more).await;
    assert_eq!(refused, Outcome::failed("more_than_was_paid"));
    assert_eq!(till.fake.seen().len(), seen, "nothing is sent for it");
    // One that failed at the bank was not given back, whatever an older event says.
    let failed = till.refund("re_2", 100, "failed");
    assert_eq!(
        till.hears("evt_4", "refund.failed", &failed).await,
        Received::Ignored
    );
    let older = till.refund("re_2", 100, "succeeded");
    assert_eq!(
        till.hears("evt_5", "refund.created", &older).await,
        Received::Ignored
    );
    assert_eq!(till.given_back().await, "2.00 USD");
}

#[tokio::test]
async fn a_refund_of_ours_ends_by_its_event_and_not_by_one_that_claims_to_be_it() {
    let till = Till::that_lost_a_refund("2.00 USD").await;
    let noted = |mut refund: Value| {
        refund["metadata"] = json!({ "agent_pay_id": "r" });
        refund
    };
    // Another amount is not it, and another payment is none of ours.
    let other = noted(till.refund("re_1", 199, "succeeded"));
    assert!(matches!(
        till.hears("evt_1", "refund.updated", &other).await,
        Received::Unbooked {
            why: Unbooked::Contradiction,
            ..
        }
    ));
    let mut elsewhere = noted(till.refund("re_1", 200, "succeeded"));
    elsewhere["payment_intent"] = json!("pi_other");
    assert_eq!(
        till.hears("evt_2", "refund.updated", &elsewhere).await,
        Received::Ignored
    );
    assert_eq!(till.given_back().await, "0.00 USD");
    let done = noted(till.refund("re_1", 200, "succeeded"));
    let received = till.hears("evt_3", "refund.updated", &done).await;
    assert!(is_back(&received), "{received:?}");
    assert_eq!(till.given_back().await, "2.00 USD");
    assert_eq!(till.shop.authority.submitted_refunds(9).await.unwrap(), []);
    // The bank of the card sends it back: the books cannot have that.
    let failed = noted(till.refund("re_1", 200, "failed"));
    assert!(matches!(
        till.hears("evt_4", "refund.failed", &failed).await,
        Received::Unbooked {
            why: Unbooked::Contradiction,
            ..
        }
    ));
    assert_eq!(till.given_back().await, "2.00 USD");
}

/// A person copies our note onto a refund by hand, of as much.
#[tokio::test]
async fn a_second_refund_that_carries_the_note_of_ours_is_another() {
    let till = Till::open().await;
    let noted = |mut refund: Value| {
        refund["metadata"] = json!({ "agent_pay_id": "r" });
        refund
    };
    let refunded = till.payer.refund(op("k"), op("r"), money("2.00 USD")).await;
    assert!(matches!(refunded, Ok(Paid::Settled(_))));
    assert_eq!(till.given_back().await, "2.00 USD");
    let copied = noted(till.refund("re_by_hand", 200, "succeeded"));
    for id in ["evt_1", "evt_2"] {
        let received = till.hears(id, "refund.updated", &copied).await;
        assert!(is_back(&received), "{received:?}");
        assert!(matches!(
            received,
            Received::GivenBack { refund, .. } if refund == op("stripe/re_by_hand")
        ));
        assert_eq!(till.given_back().await, "4.00 USD");
    }
    // One by hand that fails does not contradict ours.
    let failed = noted(till.refund("re_failed", 200, "failed"));
    assert_eq!(
        till.hears("evt_3", "refund.failed", &failed).await,
        Received::Ignored
    );
    assert_eq!(till.given_back().await, "4.00 USD");
}

#[tokio::test]
async fn a_refund_of_ours_that_fails_frees_what_was_set_aside() {
    let till = Till::that_lost_a_refund("2.50 USD").await;
    let mut failed = till.refund("re_1", 250, "failed");
    failed["metadata"] = json!({ "agent_pay_id": "r" });
    let received = till.hears("evt_1", "refund.failed", &failed).await;
    assert!(matches!(
        received,
        Received::GivenBack { paid, .. } if matches!(*paid, Paid::Failed(_))
    ));
    assert_eq!(till.shop.authority.submitted_refunds(9).await.unwrap(), []);
    let whole = till
        .shop
        .authority
        .submit_refund(op("k"), op("r2"), money("5.00 USD"));
    assert_eq!(whole.await.unwrap().amount, money("5.00 USD"));
    assert_eq!(till.given_back().await, "0.00 USD");
}

#[tokio::test]
async fn a_dispute_moves_money_when_it_is_lost_and_only_then() {
    let till = Till::open().await;
    for (n, (status, stands)) in [
        (
            "warning_needs_response",
            DisputeStatus::WarningNeedsResponse,
        ),
        ("needs_response", DisputeStatus::NeedsResponse),
        ("under_review", DisputeStatus::UnderReview),
        ("won", DisputeStatus::Won),
        ("of_another_time", DisputeStatus::Other),
    ]
    .into_iter()
    .enumerate()
    {
        let told = till.dispute(300, status);
        let received = till
            .hears(&format!("evt_{n}"), "charge.dispute.updated", &told)
            .await;
        assert!(
            matches!(received, Received::Disputed { status, .. } if status == stands),
            "{received:?}"
        );
        assert_eq!(till.given_back().await, "0.00 USD");
    }
    let lost = till.dispute(300, "lost");
    for id in ["evt_lost", "evt_told_twice"] {
        let received = till.hears(id, "charge.dispute.closed", &lost).await;
        assert!(is_back(&received), "{received:?}");
    }
    assert_eq!(till.given_back().await, "3.00 USD");
    let other = till.dispute(299, "lost");
    assert!(matches!(
        till.hears("evt_other", "charge.dispute.closed", &other)
            .await,
        Received::Unbooked {
            why: Unbooked::Contradiction,
            ..
        }
    ));
    // What went back that way is not refunded too.
    let refund = till.payer.refund(op("k"), op("r"), money("2.01 USD")).await;
    assert!(refund.is_err());
}

#[tokio::test]
async fn what_the_books_cannot_have_is_for_a_person() {
    let till = Till::open().await;
    let refunded = till.payer.refund(op("k"), op("r"), money("3.00 USD")).await;
    assert!(matches!(refunded, Ok(Paid::Settled(_))));
    // A dispute about the whole, after most of it went back.
    let lost = till.dispute(500, "lost");
    assert!(matches!(
        till.hears("evt_1", "charge.dispute.closed", &lost).await,
        Received::Unbooked {
            why: Unbooked::MoreThanIsLeft,
            ..
        }
    ));
    let mut euro = till.refund("re_9", 100, "succeeded");
    euro["currency"] = json!("eur");
    assert!(matches!(
        till.hears("evt_2", "refund.updated", &euro).await,
        Received::Unbooked {
            why: Unbooked::OtherCurrency,
            ..
        }
    ));
    assert_eq!(till.given_back().await, "3.00 USD");
    let invoice = till
        .hears("evt_3", "invoice.paid", &json!({ "id": "in_1" }))
        .await;
    assert!(matches!(invoice, Received::Unknown { kind, .. } if kind == "invoice.paid"));
    // What is signed and no refund is an error, and is sent again.
    let body = event("evt_4", "refund.updated", &json!({ "id": 7 }));
    let signature = webhooks(&till.shop).sign(&body);
    assert!(till.inbox.receive(&signature, &body).await.is_err());
}

/// Events come in any order: the payment was not heard of when its refund is.
#[tokio::test]
async fn a_refund_that_is_heard_of_before_its_payment_is_booked_with_it() {
    let shop = Shop::open(POLICY).await;
    let fake = FakeStripe::new(Faults::default(), 1);
    let (rail, payer) = shop_rail(&shop, &fake, "pm_card").await;
    fake.end_after(Some(1));
    let unknown = payer.pay(intent(&shop, "k", "5.00 USD")).await.unwrap();
    assert!(matches!(unknown, Paid::Unknown { .. }));
    fake.end_after(None);
    let inbox = Inbox::new(rail.clone(), payer.clone(), webhooks(&shop));
    let till = Till {
        paid: fake.intents()[0].clone(),
        shop,
        rail,
        payer,
        inbox,
        fake,
    };
    let done = till.refund("re_1", 500, "succeeded");
    // Stripe does not say what became of the payment: the event is not worked off, and comes again.
    till.fake.end_after(Some(0));
    let body = event("evt_1", "refund.updated", &done);
    let signature = webhooks(&till.shop).sign(&body);
    for _ in 0..2 {
        let later = till.inbox.receive(&signature, &body).await.unwrap_err();
        assert_eq!(
            (later.kind(), later.retry()),
            (ErrorKind::Unavailable, Retry::Safe)
        );
        assert_eq!(till.given_back().await, "0.00 USD");
    }
    till.fake.end_after(None);
    let received = till.hears("evt_1", "refund.updated", &done).await;
    assert!(is_back(&received), "{received:?}");
    assert_eq!(till.given_back().await, "5.00 USD");
}
