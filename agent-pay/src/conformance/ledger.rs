//! The laws of accounts, batches and holds.

use std::time::Duration;

use agent_core::{Amount, Asset, Classify, ErrorKind};

use super::{Subject, at, key, name, usd};
use crate::account::Guard;
use crate::batch::{Batch, Entry, Resolution, State, TransferKind};
use crate::error::Error;
use crate::journal::Difference;
use crate::ledger::LedgerExt;

pub(super) fn hold(k: &str, units: i64) -> Batch {
    let entry = Entry::hold(name("purse"), name("shop"), usd(units));
    Batch::new(key(k), vec![entry])
}

pub(super) fn pay(k: &str, units: i64) -> Batch {
    let entry = Entry::post(name("purse"), name("shop"), usd(units));
    Batch::new(key(k), vec![entry])
}

/// Checks what is posted and pending from the purse.
pub(super) async fn purse_has(subject: &Subject, posted: i64, pending: i64) {
    let purse = subject.ledger.account(Asset::USD, name("purse")).await;
    let balances = purse.unwrap().balances;
    assert_eq!(
        (balances.debits_posted, balances.debits_pending),
        (posted, pending)
    );
}

/// Of a batch with a refused entry nothing happens.
pub async fn batch_happens_whole_or_not_at_all(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let mut batch = pay("a", 60);
    batch.entries.extend(pay("a", 60).entries);
    let refused = subject.ledger.post(batch).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    purse_has(&subject, 0, 0).await;
    assert!(subject.ledger.find(key("a")).await.unwrap().is_none());
    // The key is free and the next batch takes the next number.
    let receipt = subject.ledger.post(pay("a", 60)).await.unwrap();
    assert_eq!(receipt.seq, 2);
    purse_has(&subject, 60, 0).await;
}

/// A batch posted again under its key gets the answer it got and has no second effect.
pub async fn same_key_and_body_get_the_same_answer(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let first = subject.ledger.post(pay("a", 60)).await.unwrap();
    subject.clock.advance(Duration::from_secs(1));
    let second = subject.ledger.post(pay("a", 60)).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.transfers.len(), 1);
    assert_eq!(first.transfers[0].amount, usd(60));
    purse_has(&subject, 60, 0).await;
}

/// A key that was used with another body is refused.
pub async fn same_key_with_another_body_is_a_conflict(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(pay("a", 60)).await.unwrap();
    for other in [pay("a", 10), hold("a", 60)] {
        let refused = subject.ledger.post(other).await.unwrap_err();
        assert!(matches!(refused, Error::KeyReused { .. }));
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
    purse_has(&subject, 60, 0).await;
}

/// Batches that no ledger can keep are refused as invalid, unknown accounts as not found.
pub async fn malformed_batches_are_refused(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let wide = Amount::from_units(i128::from(i64::MAX).saturating_mul(2), Asset::USD);
    let wide = Entry::post(name("purse"), name("shop"), wide);
    let malformed = [
        Batch::new(key("a"), Vec::new()),
        Batch::new(key("a"), vec![wide]),
        pay("a", -1),
        Batch::new(
            key("a"),
            vec![Entry::post(name("purse"), name("purse"), usd(1))],
        ),
        Batch::new(
            key("a"),
            vec![pay("a", 1).entries[0].clone(); Batch::ENTRIES_MAX.saturating_add(1)],
        ),
        hold("a", 1).with_expiry(at(&subject.clock, 0)),
    ];
    for batch in malformed {
        let refused = subject.ledger.post(batch.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{batch:?}");
    }
    let unknown = Entry::post(name("purse"), name("nobody"), usd(1));
    let refused = subject
        .ledger
        .post(Batch::new(key("a"), vec![unknown]))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let other_guard = Entry::open(Asset::USD, name("purse"), Guard::Unguarded);
    let refused = subject
        .ledger
        .post(Batch::new(key("a"), vec![other_guard]))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    purse_has(&subject, 0, 0).await;
}

/// A guarded account gives no more than its posted credits, holds included, to the last unit.
pub async fn guard_counts_posted_and_pending_debits(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(pay("a", 30)).await.unwrap();
    subject.ledger.post(hold("b", 50)).await.unwrap();
    let Err(Error::Insufficient(short)) = subject.ledger.post(pay("c", 21)).await else {
        return assert!(subject.ledger.post(pay("c", 21)).await.is_err());
    };
    assert_eq!(short.account, name("purse"));
    assert_eq!(short.credits, usd(100));
    assert_eq!(
        (short.debits_posted, short.debits_pending),
        (usd(30), usd(50))
    );
    assert_eq!(short.asked, usd(21));
    subject.ledger.post(pay("d", 20)).await.unwrap();
    let refused = subject.ledger.post(hold("e", 1)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exhausted);
    purse_has(&subject, 50, 50).await;
}

/// A capture posts at most the hold, releases the rest, and repeats its answer.
pub async fn capture_posts_its_part_and_frees_the_rest(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("a", 80)).await.unwrap();
    let found = subject.ledger.find(key("a")).await.unwrap().unwrap();
    assert_eq!(found.state, State::Pending);
    let capture = Resolution::Capture(usd(30));
    let first = subject
        .ledger
        .resolve(key("a"), capture.clone())
        .await
        .unwrap();
    let second = subject.ledger.resolve(key("a"), capture).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.transfers[0].kind, TransferKind::Captured);
    assert_eq!(first.transfers[0].hold, Some(found.receipt.transfers[0].id));
    purse_has(&subject, 30, 0).await;
    subject.ledger.post(pay("b", 70)).await.unwrap();
    let found = subject.ledger.find(key("a")).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.resolution),
        (State::Posted, Some(first))
    );
}

/// The holds of a linked set can be captured with an amount each.
pub async fn each_hold_of_a_set_can_be_captured_by_itself(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let mut batch = hold("a", 40);
    batch.entries.extend(hold("a", 50).entries);
    subject.ledger.post(batch).await.unwrap();
    let too_few = Resolution::CaptureEach(vec![usd(1)]);
    let refused = subject.ledger.resolve(key("a"), too_few).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    let one_too_much = Resolution::CaptureEach(vec![usd(40), usd(51)]);
    let refused = subject.ledger.resolve(key("a"), one_too_much).await;
    assert!(matches!(refused, Err(Error::ExceedsHold { .. })));
    purse_has(&subject, 0, 90).await;
    let each = Resolution::CaptureEach(vec![usd(40), usd(0)]);
    subject.ledger.resolve(key("a"), each).await.unwrap();
    purse_has(&subject, 40, 0).await;
}

/// A capture of more than was held is refused and the hold stays.
pub async fn capture_beyond_the_hold_is_refused(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("a", 80)).await.unwrap();
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(81)))
        .await;
    assert!(matches!(refused, Err(Error::ExceedsHold { .. })));
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(-1)))
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    purse_has(&subject, 0, 80).await;
    let refused = subject
        .ledger
        .resolve(key("nothing"), Resolution::Void)
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = subject.ledger.resolve(key("setup"), Resolution::Void).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

/// A hold that is resolved cannot be resolved in another way.
pub async fn holds_are_resolved_once(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("a", 40)).await.unwrap();
    subject.ledger.post(hold("b", 40)).await.unwrap();
    subject
        .ledger
        .resolve(key("a"), Resolution::Void)
        .await
        .unwrap();
    subject
        .ledger
        .resolve(key("a"), Resolution::Void)
        .await
        .unwrap();
    subject
        .ledger
        .resolve(key("b"), Resolution::Capture(usd(40)))
        .await
        .unwrap();
    let late = [
        ("a", Resolution::Capture(usd(1)), State::Voided),
        ("b", Resolution::Void, State::Posted),
        ("b", Resolution::Capture(usd(39)), State::Posted),
    ];
    for (k, resolution, expected) in late {
        let refused = subject.ledger.resolve(key(k), resolution).await;
        assert!(
            matches!(refused, Err(Error::Resolved { state, .. }) if state == expected),
            "{refused:?}"
        );
    }
    purse_has(&subject, 40, 0).await;
}

/// A hold whose time is over cannot be captured, swept or not, and sweeping releases it.
pub async fn expired_holds_cannot_be_captured_and_are_released(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let expiring = hold("a", 40).with_expiry(at(&subject.clock, 100));
    subject.ledger.post(expiring.clone()).await.unwrap();
    subject.ledger.post(hold("b", 40)).await.unwrap();
    subject.ledger.expire(10).await.unwrap();
    purse_has(&subject, 0, 80).await;
    subject.clock.advance(Duration::from_millis(100));
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(1)))
        .await;
    assert!(matches!(refused, Err(Error::Expired { .. })), "{refused:?}");
    subject.ledger.expire(10).await.unwrap();
    purse_has(&subject, 0, 40).await;
    let found = subject.ledger.find(key("a")).await.unwrap().unwrap();
    assert_eq!(found.state, State::Expired);
    let refused = subject
        .ledger
        .resolve(key("a"), Resolution::Capture(usd(1)))
        .await;
    assert!(matches!(
        refused,
        Err(Error::Resolved {
            state: State::Expired,
            ..
        })
    ));
    // The batch itself is still the answer to its key.
    assert_eq!(subject.ledger.post(expiring).await.unwrap(), found.receipt);
    assert!(subject.ledger.expire(10).await.unwrap().is_empty());
}

/// A reversal lowers both posted sums, never below zero and never below the guard.
pub async fn reversal_takes_back_no_more_than_was_posted(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(pay("a", 60)).await.unwrap();
    let refund = |k: &str, units| {
        let entry = Entry::reverse(name("purse"), name("shop"), usd(units));
        Batch::new(key(k), vec![entry])
    };
    let refused = subject.ledger.post(refund("b", 61)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    subject.ledger.post(refund("c", 60)).await.unwrap();
    subject.ledger.post(pay("d", 90)).await.unwrap();
    let entry = Entry::reverse(name("bank"), name("purse"), usd(11));
    let refused = subject.ledger.post(Batch::new(key("e"), vec![entry])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exhausted);
    purse_has(&subject, 90, 0).await;
}

/// A balance that would leave 64 bits is refused.
pub async fn balance_beyond_64_bits_is_refused(subject: Subject) {
    let subject = subject.with_purse(i64::MAX - 1).await;
    let more = |k: &str, units| {
        let entry = Entry::post(name("bank"), name("purse"), usd(units));
        Batch::new(key(k), vec![entry])
    };
    subject.ledger.post(more("a", 1)).await.unwrap();
    let refused = subject.ledger.post(more("b", 1)).await.unwrap_err();
    assert!(matches!(refused, Error::Overflow { .. }));
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    subject.ledger.verify(None).await.unwrap();
}

/// A conflict of keys names the first thing that differs.
pub async fn conflict_of_keys_names_the_difference(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let batch = pay("a", 10);
    subject.ledger.post(batch.clone()).await.unwrap();
    let entry = |entry| Batch::new(key("a"), vec![entry]);
    let cases = [
        (pay("a", 11), Difference::Amount),
        (hold("a", 10), Difference::Kind),
        (batch.clone().with_memo("x"), Difference::Memo),
        (
            batch.clone().with_expiry(at(&subject.clock, 5)),
            Difference::Expiry,
        ),
        (
            Batch::new(key("a"), [batch.clone().entries, batch.entries].concat()),
            Difference::Count,
        ),
        (
            entry(Entry::post(name("bank"), name("shop"), usd(10))),
            Difference::Debit,
        ),
        (
            entry(Entry::post(name("purse"), name("bank"), usd(10))),
            Difference::Credit,
        ),
    ];
    for (other, expected) in cases {
        let refused = subject.ledger.post(other).await.unwrap_err();
        let found = match refused {
            Error::KeyReused { differs, .. } => Ok(differs),
            other => Err(other),
        };
        assert_eq!(found.unwrap(), expected);
    }
    purse_has(&subject, 10, 0).await;
}

/// A refusal uses the key up where the batch asks for that, and only there.
pub async fn pinned_refusal_uses_its_key_up(subject: Subject) {
    let subject = subject.with_purse(10).await;
    let pinned = pay("p", 20).with_pinned_refusal();
    // A layer may repeat the call, and the second answer says what the first did.
    let refused = subject.ledger.post(pinned.clone()).await.unwrap_err();
    assert!(matches!(
        refused,
        Error::Insufficient(_) | Error::AlreadyFailed { .. }
    ));
    let refused = subject.ledger.post(pay("free", 20)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    let more = Entry::post(name("bank"), name("purse"), usd(30));
    let more = Batch::new(key("more"), vec![more]);
    subject.ledger.post(more).await.unwrap();
    let again = subject.ledger.post(pinned).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyFailed { .. }), "{again:?}");
    let other = subject.ledger.post(pay("p", 1)).await.unwrap_err();
    assert!(matches!(other, Error::KeyReused { .. }));
    subject.ledger.post(pay("free", 20)).await.unwrap();
    purse_has(&subject, 20, 0).await;
}

/// A hold whose time is over is expired for every reader, swept or not.
pub async fn deadline_counts_not_the_sweeper(subject: Subject) {
    let subject = subject.with_purse(100).await;
    let held = hold("h", 60).with_expiry(at(&subject.clock, 10));
    subject.ledger.post(held).await.unwrap();
    subject.clock.advance(Duration::from_millis(9));
    let found = subject.ledger.find(key("h")).await.unwrap().unwrap();
    assert_eq!(found.state, State::Pending);
    subject.clock.advance(Duration::from_millis(1));
    let found = subject.ledger.find(key("h")).await.unwrap().unwrap();
    assert_eq!((found.state, found.resolution), (State::Expired, None));
    purse_has(&subject, 0, 60).await;
    subject.ledger.expire(10).await.unwrap();
    purse_has(&subject, 0, 0).await;
}

/// What a batch moved is taken back once, by new transfers; the old ones stay.
pub async fn reversal_is_a_batch_of_its_own(subject: Subject) {
    let subject = subject.with_purse(100).await;
    subject.ledger.post(hold("h", 60)).await.unwrap();
    let nothing = subject.ledger.reverse(key("h")).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Invalid);
    let capture = Resolution::Capture(usd(25));
    subject.ledger.resolve(key("h"), capture).await.unwrap();
    let first = subject.ledger.reverse(key("h")).await.unwrap();
    assert_eq!(subject.ledger.reverse(key("h")).await.unwrap(), first);
    assert_eq!(first.transfers[0].kind, TransferKind::Reversed);
    assert_eq!(first.transfers[0].amount, usd(25));
    purse_has(&subject, 0, 0).await;
    let found = subject.ledger.find(key("h")).await.unwrap().unwrap();
    assert_eq!(found.resolution.unwrap().transfers[0].amount, usd(25));
    subject.ledger.verify(None).await.unwrap();
}
