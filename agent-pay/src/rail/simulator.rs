//! A rail with the faults of real ones, decided by a seeded source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Amount, Asset, Entropy, EntropyExt, IdempotencyKey};
use async_trait::async_trait;
use parking_lot::Mutex;

use super::payer::{Event, EventId};
use super::{Outcome, Payment, Rail};

/// How often things go wrong, of a million payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatorFaults {
    /// The request never arrives, and its caller waits in vain.
    pub lost_requests: u32,
    /// The payment settles, and its caller waits in vain.
    pub accept_then_timeout: u32,
    /// The payment settles, and the answer is an error of the server.
    pub error_after_settling: u32,
    /// The payment is accepted and ends only after it was asked for a few times.
    pub slow: u32,
    /// The payment is refused.
    pub refused: u32,
    /// Each event is told twice.
    pub double_answers: u32,
}

impl SimulatorFaults {
    /// One payment in eight suffers each fault.
    #[must_use]
    pub const fn harsh() -> Self {
        Self {
            lost_requests: 125_000,
            accept_then_timeout: 125_000,
            error_after_settling: 125_000,
            slow: 125_000,
            refused: 125_000,
            double_answers: 500_000,
        }
    }
}

/// A rail in memory: what it holds is the truth about money that moved.
#[derive(Debug)]
pub struct Simulator {
    faults: SimulatorFaults,
    entropy: Arc<dyn Entropy>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    payments: BTreeMap<IdempotencyKey, Record>,
    events: Vec<Event>,
    n_events: u64,
}

#[derive(Clone, Debug)]
struct Record {
    payment: Payment,
    fate: Fate,
    /// The payment it gives back part of.
    gives_back: Option<IdempotencyKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Settled,
    Failed(&'static str),
    /// It settles when it was asked for so many more times.
    Slow(u8),
}

impl Simulator {
    /// Creates a rail with faults; the same entropy and calls, the same faults.
    #[must_use]
    pub fn new(faults: SimulatorFaults, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            faults,
            entropy,
            state: Mutex::new(State::default()),
        }
    }

    /// Returns what was paid and not given back, the truth to compare books with.
    #[must_use]
    pub fn moved(&self, asset: Asset) -> Amount {
        let state = self.state.lock();
        let settled = state.payments.values().filter(|record| {
            record.fate == Fate::Settled && record.payment.amount.asset() == asset
        });
        let units = settled.fold(0_i128, |sum, record| {
            let units = record.payment.amount.units();
            match record.gives_back {
                None => sum.saturating_add(units),
                Some(_) => sum.saturating_sub(units),
            }
        });
        Amount::from_units(units, asset)
    }

    /// Takes the events the rail tells, some twice, in an order that has nothing to do with the
    /// one they happened in.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.state.lock().events);
        let doubled: Vec<Event> = events
            .iter()
            .filter(|_event| self.entropy.chance(self.faults.double_answers))
            .cloned()
            .collect();
        events.extend(doubled);
        events.sort_by_cached_key(|_event| self.entropy.next_u64());
        events
    }

    /// Takes a request to pay or to give back; the first with its id counts.
    fn take(&self, payment: Payment, gives_back: Option<IdempotencyKey>) -> Outcome {
        let drawn = self.draw();
        if drawn == Drawn::LostRequest {
            return Outcome::unknown(SOON, "no answer in time");
        }
        let id = payment.id.clone();
        let mut state = self.state.lock();
        let is_new = !state.payments.contains_key(&id);
        let fate = match drawn {
            _ if payment.amount.is_negative() => Fate::Failed("negative_amount"),
            _ if !state.has_left(gives_back.as_ref(), &payment.amount) => {
                Fate::Failed("exceeds_payment")
            }
            Drawn::Refused => Fate::Failed("refused"),
            Drawn::Slow => Fate::Slow(2),
            _ => Fate::Settled,
        };
        let record = Record {
            payment,
            fate,
            gives_back,
        };
        let record = state.payments.entry(id.clone()).or_insert(record);
        let outcome = record.outcome();
        if is_new {
            state.tell(&id);
        }
        match drawn {
            Drawn::Timeout => Outcome::unknown(SOON, "no answer in time"),
            Drawn::Error => Outcome::unknown(SOON, "503 service unavailable"),
            _ => outcome,
        }
    }

    /// Draws at most one of the faults that exclude one another.
    fn draw(&self) -> Drawn {
        let faults = [
            (self.faults.lost_requests, Drawn::LostRequest),
            (self.faults.accept_then_timeout, Drawn::Timeout),
            (self.faults.error_after_settling, Drawn::Error),
            (self.faults.slow, Drawn::Slow),
            (self.faults.refused, Drawn::Refused),
        ];
        let drawn = faults
            .into_iter()
            .find(|(share, _)| self.entropy.chance(*share));
        drawn.map_or(Drawn::Nothing, |(_, fault)| fault)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Nothing,
    LostRequest,
    Timeout,
    Error,
    Slow,
    Refused,
}

const SOON: Duration = Duration::from_millis(100);

impl State {
    /// Returns whether an amount can be given back of a payment, beside what is or may be given
    /// back of it; true if it is none of a refund.
    fn has_left(&self, of: Option<&IdempotencyKey>, amount: &Amount) -> bool {
        let Some(of) = of else { return true };
        let Some(paid) = self.payments.get(of) else {
            return false;
        };
        let is_back = |record: &&Record| {
            record.gives_back.as_ref() == Some(of) && !matches!(record.fate, Fate::Failed(_))
        };
        let back = self.payments.values().filter(is_back);
        let back = back.map(|record| record.payment.amount.units());
        let back = back.fold(0_i128, i128::saturating_add);
        paid.fate == Fate::Settled
            && paid.gives_back.is_none()
            && paid.payment.amount.asset() == amount.asset()
            && back.saturating_add(amount.units()) <= paid.payment.amount.units()
    }

    fn tell(&mut self, id: &IdempotencyKey) {
        let Some(record) = self.payments.get(id) else {
            return;
        };
        self.n_events = self.n_events.saturating_add(1);
        let event = EventId::new(format!("evt_{}", self.n_events));
        let outcome = record.outcome();
        self.events.push(Event::new(event, id.clone(), outcome));
    }
}

impl Record {
    fn outcome(&self) -> Outcome {
        match self.fate {
            Fate::Settled => Outcome::settled(
                self.payment.amount,
                format!("sim_{}", self.payment.id.as_str()),
            ),
            Fate::Failed(code) => Outcome::failed(code),
            Fate::Slow(_) => Outcome::unknown(SOON, "processing"),
        }
    }
}

#[async_trait]
impl Rail for Simulator {
    fn name(&self) -> &'static str {
        "simulator"
    }

    async fn pay(&self, payment: Payment) -> Outcome {
        self.take(payment, None)
    }

    async fn look_up(&self, id: IdempotencyKey) -> Outcome {
        if self.entropy.chance(self.faults.lost_requests) {
            return Outcome::unknown(SOON, "no answer in time");
        }
        let mut state = self.state.lock();
        let Some(record) = state.payments.get_mut(&id) else {
            // A request still on its way finds the id closed.
            let closed = Record {
                payment: Payment::new(id.clone(), "", Amount::zero(Asset::USD)),
                fate: Fate::Failed("never_arrived"),
                gives_back: None,
            };
            state.payments.insert(id, closed);
            return Outcome::failed("never_arrived");
        };
        if let Fate::Slow(n_left) = record.fate {
            record.fate = match n_left.checked_sub(1) {
                Some(n_left) => Fate::Slow(n_left),
                None => Fate::Settled,
            };
            let outcome = record.outcome();
            if outcome.is_final() {
                state.tell(&id);
            }
            return outcome;
        }
        record.outcome()
    }

    async fn refund(&self, payment: IdempotencyKey, refund: Payment) -> Outcome {
        self.take(refund, Some(payment))
    }
}
