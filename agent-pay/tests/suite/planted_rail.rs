//! Bugs planted in a rail: each makes the law fail that is there to find it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::{Amount, Asset, IdempotencyKey};
use agent_pay::conformance::RailSubject;
use agent_pay::rail::{Outcome, Payment, Rail, Simulator, SimulatorFaults};
use parking_lot::Mutex;

use crate::common::op;
use crate::finds::laws_find;
use crate::rails::simulator;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Every call pays.
    PaysAgain,
    /// A call with another amount pays that one too.
    PaysOtherAmounts,
    /// The amount that is told is that of the last call.
    TellsTheLastAmount,
    /// What settled is called failed.
    CallsSettledFailed,
    /// Only the first three look-ups of a payment find it.
    ForgetsPayments,
    /// A payment that comes again is refused as a copy.
    RefusesCopies,
    /// What is told of a payment has another reference each time.
    ChangesReferences,
    /// Another part of what was paid is told each time.
    ChangesAmounts,
    /// What is not there has failed, and may come later.
    ClosesNothing,
    /// What was closed is paid when it comes, though nobody is told at once.
    PaysWhatIsClosed,
    /// What was closed and comes is called settled later, though nothing moved.
    CallsClosedSettled,
    /// Every call gives back.
    RefundsAgain,
    /// A refund of more than was paid gives back what was.
    ClampsRefunds,
    /// A refund of what nobody paid comes out of somebody else's payment.
    RefundsStrangers,
    /// A refund is told and does not move.
    RefundsNothing,
    /// A refund is told as whole and moves a part.
    RefundsLess,
    /// A refund moves what is asked and tells less.
    TellsLess,
    /// A refund is compared with what was paid, not with what is left.
    ComparesWithPaid,
}

#[derive(Debug)]
struct Planted {
    inner: Arc<Simulator>,
    bug: Option<Bug>,
    n_calls: AtomicU32,
    /// The payments that came, and how often each was looked up.
    came: Mutex<BTreeMap<IdempotencyKey, (Payment, u32)>>,
    closed: Mutex<Vec<IdempotencyKey>>,
}

fn with_units(outcome: Outcome, change: impl Fn(i128) -> i128) -> Outcome {
    match outcome {
        Outcome::Settled {
            amount, reference, ..
        } => {
            let units = change(amount.units());
            Outcome::settled(Amount::from_units(units, amount.asset()), reference)
        }
        other => other,
    }
}

impl Planted {
    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Counts calls from 1.
    fn call(&self) -> u32 {
        self.n_calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A payment under a key nobody has used.
    fn anew(&self, payment: &Payment) -> Payment {
        let mut payment = payment.clone();
        payment.id = op(&format!("{}/{}", payment.id.as_str(), self.call()));
        payment
    }

    /// What is told of a payment.
    fn told(&self, id: &IdempotencyKey, outcome: Outcome) -> Outcome {
        let n = self.call();
        let mut came = self.came.lock();
        let last = came.get_mut(id).map(|(payment, n_told)| {
            *n_told += 1;
            (payment.amount, *n_told)
        });
        match (self.bug, last) {
            (Some(Bug::TellsTheLastAmount), Some((last, _))) => {
                with_units(outcome, |_units| last.units())
            }
            (Some(Bug::CallsSettledFailed), _) if outcome.is_final() => Outcome::failed("no"),
            (Some(Bug::ForgetsPayments), Some((_, n_told))) if n_told > 3 => {
                Outcome::failed("not_found")
            }
            (Some(Bug::ChangesReferences), _) => match outcome {
                Outcome::Settled { amount, .. } => Outcome::settled(amount, n.to_string()),
                other => other,
            },
            (Some(Bug::ChangesAmounts), _) => {
                with_units(outcome, |units| units - i128::from(n % 2))
            }
            _ => outcome,
        }
    }
}

#[async_trait::async_trait]
impl Rail for Planted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        let id = payment.id.clone();
        if self.is(Bug::PaysWhatIsClosed) && self.closed.lock().contains(&id) {
            let _paid = self.inner.pay(self.anew(&payment)).await;
            return Outcome::unknown(Duration::ZERO, "late");
        }
        let first = {
            let mut came = self.came.lock();
            let first = came.get(&id).map(|(first, _n)| first.amount);
            came.entry(id.clone()).or_insert((payment.clone(), 0)).0 = payment.clone();
            first
        };
        if first.is_some() && self.is(Bug::RefusesCopies) {
            return Outcome::failed("duplicate");
        }
        let differs = first.is_some_and(|first| first != payment.amount);
        if first.is_some()
            && (self.is(Bug::PaysAgain) || (self.is(Bug::PaysOtherAmounts) && differs))
        {
            return self.inner.pay(self.anew(&payment)).await;
        }
        let outcome = self.inner.pay(payment).await;
        self.told(&id, outcome)
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        let has_come = self.came.lock().contains_key(&id);
        if !has_come && self.is(Bug::ClosesNothing) {
            return Outcome::failed("not_found");
        }
        let outcome = self.inner.look_up(id.clone()).await;
        let mut closed = self.closed.lock();
        if has_come && self.is(Bug::CallsClosedSettled) && closed.contains(&id) {
            return Outcome::settled(Amount::from_units(10, Asset::USD), "late");
        }
        if !has_come && outcome.is_final() {
            closed.push(id.clone());
        }
        drop(closed);
        self.told(&id, outcome)
    }

    async fn refund(&self, of: IdempotencyKey, mut refund: Payment) -> Outcome {
        let paid = self
            .came
            .lock()
            .get(&of)
            .map(|(payment, _n)| payment.amount);
        match self.bug {
            Some(Bug::RefundsAgain) => refund = self.anew(&refund),
            Some(Bug::RefundsNothing) => {
                let is_more = paid.is_none_or(|paid| refund.amount.units() > paid.units());
                if is_more {
                    return Outcome::failed("exceeds_payment");
                }
                return Outcome::settled(refund.amount, "r");
            }
            Some(Bug::RefundsLess) => {
                let told = refund.amount;
                refund.amount = Amount::from_units(told.units() - 1, told.asset());
                let outcome = self.inner.refund(of, refund).await;
                return with_units(outcome, |units| units + 1);
            }
            Some(Bug::TellsLess) => {
                let outcome = self.inner.refund(of, refund).await;
                return with_units(outcome, |units| units - 1);
            }
            _ => {}
        }
        let outcome = self.inner.refund(of.clone(), refund.clone()).await;
        if !matches!(outcome, Outcome::Failed { .. }) {
            return outcome;
        }
        match (self.bug, paid) {
            (Some(Bug::ClampsRefunds), Some(paid)) => {
                let mut whole = self.anew(&refund);
                whole.amount = paid;
                self.inner.refund(of, whole).await
            }
            (Some(Bug::RefundsStrangers), None) => {
                let other = self.came.lock().keys().next().unwrap().clone();
                self.inner.refund(other, self.anew(&refund)).await
            }
            (Some(Bug::ComparesWithPaid), Some(paid)) if refund.amount.units() <= paid.units() => {
                // Out of a payment of its own, for somebody else.
                let other = self.anew(&Payment::new(of, "shop", paid));
                let _paid = self.inner.pay(other.clone()).await;
                self.inner.refund(other.id, self.anew(&refund)).await
            }
            _ => outcome,
        }
    }
}

fn subject(bug: Option<Bug>) -> RailSubject {
    let inner = simulator(SimulatorFaults::default(), 1);
    let truth = Arc::clone(&inner);
    let planted = Planted {
        inner,
        bug,
        n_calls: AtomicU32::new(0),
        came: Mutex::default(),
        closed: Mutex::default(),
    };
    RailSubject::new(Arc::new(planted), "shop", move || {
        let moved = truth.moved(Asset::USD);
        async move { moved }
    })
}

laws_find! {
    one_id_moves_money_once: PaysAgain, PaysOtherAmounts, TellsTheLastAmount, CallsSettledFailed;
    final_outcome_stays: ForgetsPayments, RefusesCopies, ChangesReferences, ChangesAmounts;
    id_that_failed_unseen_is_closed: ClosesNothing, PaysWhatIsClosed, CallsClosedSettled;
    refund_moves_back_at_most_what_was_paid: RefundsAgain, ClampsRefunds, RefundsStrangers,
        RefundsNothing, RefundsLess, TellsLess, ComparesWithPaid;
}
