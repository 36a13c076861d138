//! The laws of a [`Rail`].

use std::sync::Arc;

use agent_core::Amount;

use super::{key, usd};
use crate::rail::{Outcome, Payment, Rail};

/// A rail to try the laws on, and how much it moved.
#[non_exhaustive]
pub struct RailSubject {
    /// The rail.
    pub rail: Arc<dyn Rail>,
    /// A payee it can pay.
    pub payee: String,
    /// The least the rail can pay, in millionths of a dollar.
    pub unit: i64,
    /// Returns what was paid and not given back.
    pub moved:
        Box<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = Amount> + Send>> + Send + Sync>,
}

impl std::fmt::Debug for RailSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RailSubject")
            .field("rail", &self.rail)
            .finish_non_exhaustive()
    }
}

impl RailSubject {
    /// Takes a rail with at least 1,000 units of a millionth of a dollar to pay with.
    pub fn new<F>(
        rail: Arc<dyn Rail>,
        payee: &str,
        moved: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Amount> + Send + 'static,
    {
        Self {
            rail,
            payee: payee.to_owned(),
            unit: 1,
            moved: Box::new(move || Box::pin(moved())),
        }
    }

    /// Sets the least the rail can pay: a cent is 10,000. Default: a millionth of a dollar.
    #[must_use]
    pub fn with_unit(mut self, unit: i64) -> Self {
        self.unit = unit;
        self
    }

    fn amount(&self, units: i64) -> Amount {
        usd(units.saturating_mul(self.unit))
    }

    fn payment(&self, id: &str, units: i64) -> Payment {
        Payment::new(key(id), self.payee.clone(), self.amount(units))
    }

    /// Gives back part of a payment and returns whether that settled.
    async fn gives_back(&self, of: &str, id: &str, units: i64) -> bool {
        let refund = Payment::new(key(id), "", self.amount(units));
        let mut outcome = self.rail.refund(key(of), refund).await;
        if !outcome.is_final() {
            outcome = self.known(id).await;
        }
        let Outcome::Settled { amount, .. } = outcome else {
            return false;
        };
        assert_eq!(amount, self.amount(units), "{id}");
        true
    }

    /// Gives back under new ids until it settles and returns the id.
    async fn gives_back_in_the_end(&self, of: &str, id: &str, units: i64) -> String {
        let mut done = None;
        for n in 0..1_000 {
            let id = format!("{id}-{n}");
            if self.gives_back(of, &id, units).await {
                done = Some(id);
                break;
            }
        }
        done.unwrap()
    }

    /// Asks until the rail knows.
    async fn known(&self, id: &str) -> Outcome {
        for _ in 0..1_000 {
            let outcome = self.rail.look_up(key(id)).await;
            if outcome.is_final() {
                return outcome;
            }
        }
        Outcome::failed("never known")
    }
}

/// Under one id money moves once, however often it is paid, and the first amount counts.
pub async fn one_id_moves_money_once(subject: RailSubject) {
    for n in 0..20 {
        let id = format!("p{n}");
        let before = (subject.moved)().await;
        for units in [10, 10, 20] {
            let _outcome = subject.rail.pay(subject.payment(&id, units)).await;
        }
        let moved = (subject.moved)().await.minus(before).unwrap();
        match subject.known(&id).await {
            Outcome::Settled { amount, .. } => {
                let after = (subject.moved)().await.minus(before).unwrap();
                assert_eq!(after, amount, "{id}");
            }
            _ => assert_eq!(moved, usd(0), "{id}"),
        }
    }
}

/// What is final stays, whatever is asked or paid afterwards.
pub async fn final_outcome_stays(subject: RailSubject) {
    for n in 0..20 {
        let id = format!("p{n}");
        let _outcome = subject.rail.pay(subject.payment(&id, 10)).await;
        let first = subject.known(&id).await;
        for _ in 0..5 {
            let again = subject.rail.pay(subject.payment(&id, 10)).await;
            assert!(
                !again.is_final() || again == first,
                "{again:?} after {first:?}"
            );
            let again = subject.rail.look_up(key(&id)).await;
            assert!(
                !again.is_final() || again == first,
                "{again:?} after {first:?}"
            );
        }
    }
}

/// An id the rail says has failed, though it never saw it, cannot settle any more.
pub async fn id_that_failed_unseen_is_closed(subject: RailSubject) {
    for n in 0..20 {
        let id = format!("p{n}");
        let before = (subject.moved)().await;
        if !matches!(subject.rail.look_up(key(&id)).await, Outcome::Failed { .. }) {
            continue;
        }
        let late = subject.rail.pay(subject.payment(&id, 10)).await;
        assert!(!matches!(late, Outcome::Settled { .. }), "{late:?}");
        let known = subject.known(&id).await;
        assert!(!matches!(known, Outcome::Settled { .. }), "{known:?}");
        assert_eq!((subject.moved)().await, before);
    }
}

/// A refund moves back what it says, once, and never more than was paid: nothing where nothing was.
pub async fn refund_moves_back_at_most_what_was_paid(subject: RailSubject) {
    let mut paid = None;
    for n in 0..1_000 {
        let id = format!("p{n}");
        let _outcome = subject.rail.pay(subject.payment(&id, 10)).await;
        if let Outcome::Settled { .. } = subject.known(&id).await {
            paid = Some(id);
            break;
        }
    }
    let id = paid.unwrap();
    let before = (subject.moved)().await;
    let moved_back = async || before.minus((subject.moved)().await).unwrap();
    assert!(!subject.gives_back("never", "r", 1).await);
    assert!(!subject.gives_back(&id, "r0", 11).await);
    assert_eq!(moved_back().await, subject.amount(0));
    let first = subject.gives_back_in_the_end(&id, "r1", 4).await;
    for _ in 0..3 {
        assert!(subject.gives_back(&id, &first, 4).await);
    }
    assert_eq!(moved_back().await, subject.amount(4));
    // What is left counts, not what was paid.
    assert!(!subject.gives_back(&id, "r2", 7).await);
    subject.gives_back_in_the_end(&id, "r3", 6).await;
    assert!(!subject.gives_back(&id, "r4", 1).await);
    assert_eq!(moved_back().await, subject.amount(10));
}

/// Runs every law of a rail against what `$make` makes, a test each.
///
/// `$make` is an `async fn() -> RailSubject`; `tokio` must be a dependency of the test.
#[macro_export]
macro_rules! rail_conformance {
    ($make:path) => {
        $crate::rail_conformance! { @laws $make;
            one_id_moves_money_once
            final_outcome_stays
            id_that_failed_unseen_is_closed
            refund_moves_back_at_most_what_was_paid
        }
    };
    (@laws $make:path; $($law:ident)+) => {
        $(
            #[tokio::test]
            async fn $law() {
                $crate::conformance::$law($make().await).await;
            }
        )+
    };
}
