//! Random operations against a reference ledger of a few lines, on both backends.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    Amount, Asset, Clock, Env, IdempotencyKey, ManualClock, SeededEntropy, Timestamp,
};
use agent_pay::backend::{InMemoryLedger, SqliteLedger};
use agent_pay::{
    Admission, BudgetPath, Budgets, Charge, Ledger, OpenBudget, Reserve, SetLimit, Settle,
};
use proptest::prelude::*;

const NODES: [&str; 5] = ["f", "f/p", "f/p/a", "f/p/b", "f/q"];

#[derive(Clone, Debug)]
enum Op {
    Open(usize, i64),
    SetLimit(u8, usize, i64),
    Reserve(u8, usize, i64, u64),
    Settle(u8, i64),
    Release(u8),
    Charge(u8, usize, i64),
    Wait(u64),
    Expire,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (key, node, units) = (0..12_u8, 0..NODES.len(), 0..40_i64);
    let op = prop_oneof![
        2 => (node.clone(), 50..90_i64).prop_map(|(n, u)| Op::Open(n, u)),
        1 => (key.clone(), node.clone(), 0..120_i64).prop_map(|(k, n, u)| Op::SetLimit(k, n, u)),
        6 => (key.clone(), node.clone(), units.clone(), 1..60_u64)
            .prop_map(|(k, n, u, t)| Op::Reserve(k, n, u, t)),
        4 => (key.clone(), units.clone()).prop_map(|(k, u)| Op::Settle(k, u)),
        2 => key.clone().prop_map(Op::Release),
        2 => (key, node, units).prop_map(|(k, n, u)| Op::Charge(k, n, u)),
        1 => (1..30_u64).prop_map(Op::Wait),
        1 => Just(Op::Expire),
    ];
    proptest::collection::vec(op, 1..80)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hold {
    Pending,
    Settled(i64),
    Released,
    Expired,
}

/// A reservation: its node, amount, end and state.
type Held = (usize, i64, u64, Hold);

/// The reference: what budgets mean, without accounts, transfers or a journal.
#[derive(Default)]
struct Model {
    now: u64,
    limits: BTreeMap<usize, i64>,
    spent: BTreeMap<usize, i64>,
    /// Body and state of every key that was accepted.
    keys: BTreeMap<u8, (String, Option<Held>)>,
}

impl Model {
    fn above(node: usize) -> Vec<usize> {
        let is_above = |other: &usize| {
            NODES[node] == NODES[*other] || NODES[node].starts_with(&format!("{}/", NODES[*other]))
        };
        (0..NODES.len()).filter(is_above).collect()
    }

    fn held(&self, node: usize) -> i64 {
        let holds = self.keys.values().filter_map(|(_body, hold)| *hold);
        holds
            .filter(|h| h.3 == Hold::Pending && Self::above(h.0).contains(&node))
            .map(|h| h.1)
            .sum()
    }

    fn taken(&self, node: usize) -> i64 {
        self.held(node) + self.spent.get(&node).copied().unwrap_or(0)
    }

    fn fits(&self, node: usize, units: i64) -> bool {
        Self::above(node).into_iter().all(|n| {
            let limit = self.limits.get(&n);
            limit.is_some_and(|limit| self.taken(n) + units <= *limit)
        })
    }

    fn spend(&mut self, node: usize, units: i64) {
        for n in Self::above(node) {
            *self.spent.entry(n).or_default() += units;
        }
    }

    /// Accepts a key once: the same body again succeeds, another never.
    fn once(&mut self, k: u8, op: &Op, fits: bool, hold: Option<Held>) -> (bool, bool) {
        let body = format!("{op:?}");
        if let Some((before, _hold)) = self.keys.get(&k) {
            return (*before == body, false);
        }
        if fits {
            self.keys.insert(k, (body, hold));
        }
        (fits, fits)
    }

    /// Returns whether the operation succeeds.
    fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::Open(node, units) => *self.limits.entry(*node).or_insert(*units) == *units,
            Op::SetLimit(k, node, units) => {
                let fits = self.limits.contains_key(node) && self.taken(*node) <= *units;
                let (ok, is_first) = self.once(*k, op, fits, None);
                if is_first {
                    self.limits.insert(*node, *units);
                }
                ok
            }
            Op::Reserve(k, node, units, end) => {
                let fits = self.fits(*node, *units);
                let hold = (*node, *units, *end, Hold::Pending);
                self.once(*k, op, fits, Some(hold)).0
            }
            Op::Charge(k, node, units) => {
                let fits = self.fits(*node, *units);
                let (ok, is_first) = self.once(*k, op, fits, None);
                if is_first {
                    self.spend(*node, *units);
                }
                ok
            }
            Op::Settle(k, actual) => self.settle(*k, *actual),
            Op::Release(k) => {
                let Some((_body, Some(hold))) = self.keys.get_mut(k) else {
                    return false;
                };
                if hold.3 == Hold::Pending {
                    hold.3 = Hold::Released;
                }
                matches!(hold.3, Hold::Released | Hold::Expired)
            }
            Op::Wait(ms) => {
                self.now += ms;
                true
            }
            Op::Expire => {
                let holds = self.keys.values_mut().filter_map(|(_, hold)| hold.as_mut());
                for hold in holds.filter(|h| h.3 == Hold::Pending && h.2 <= self.now) {
                    hold.3 = Hold::Expired;
                }
                true
            }
        }
    }

    fn settle(&mut self, k: u8, actual: i64) -> bool {
        let Some((_body, Some(hold))) = self.keys.get_mut(&k) else {
            return false;
        };
        let (node, units, end, state) = *hold;
        match state {
            Hold::Pending if actual <= units && self.now < end => {
                hold.3 = Hold::Settled(actual);
                self.spend(node, actual);
                true
            }
            Hold::Settled(before) => before == actual,
            _ => false,
        }
    }
}

struct Real {
    clock: Arc<ManualClock>,
    ledger: Arc<dyn Ledger>,
    budgets: Budgets,
}

fn key(k: u8) -> IdempotencyKey {
    IdempotencyKey::new(format!("key-{k}")).unwrap()
}

fn path(node: usize) -> BudgetPath {
    BudgetPath::new(NODES[node]).unwrap()
}

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

impl Real {
    async fn apply(&self, op: &Op) -> bool {
        let budgets = &self.budgets;
        match op.clone() {
            Op::Open(n, units) => budgets
                .open(OpenBudget::new(path(n), usd(units)))
                .await
                .is_ok(),
            Op::SetLimit(k, n, units) => {
                let set = SetLimit::new(key(k), path(n), usd(units));
                budgets.set_limit(set).await.is_ok()
            }
            Op::Reserve(k, n, units, end) => {
                let end = Timestamp::from_unix_ms(i64::try_from(end).unwrap());
                let reserve = Reserve::new(key(k), path(n), usd(units), end);
                matches!(budgets.reserve(reserve).await, Ok(Admission::Reserved(_)))
            }
            Op::Settle(k, actual) => budgets
                .settle(Settle::new(key(k), usd(actual)))
                .await
                .is_ok(),
            Op::Release(k) => budgets.release(key(k)).await.is_ok(),
            Op::Charge(k, n, units) => budgets
                .charge(Charge::new(key(k), path(n), usd(units)))
                .await
                .is_ok(),
            Op::Wait(ms) => {
                self.clock.advance(Duration::from_millis(ms));
                true
            }
            Op::Expire => budgets.expire(1_000).await.is_ok(),
        }
    }

    async fn agrees(&self, model: &Model) -> Result<(), TestCaseError> {
        for (n, node) in NODES.iter().enumerate() {
            let real = self.budgets.balance(Asset::USD, path(n)).await.unwrap();
            let limit = model.limits.get(&n).copied().unwrap_or(0);
            let spent = model.spent.get(&n).copied().unwrap_or(0);
            prop_assert_eq!(real.limit, usd(limit), "limit of {}", node);
            prop_assert_eq!(real.spent, usd(spent), "spent of {}", node);
            prop_assert_eq!(real.held, usd(model.held(n)), "held of {}", node);
        }
        Ok(())
    }
}

async fn run(real: Real, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for mut op in ops {
        if let Op::Reserve(.., end) = &mut op {
            // Expiries are random delays from the present; the body holds the moment.
            *end += u64::try_from(real.clock.now().as_unix_ms()).unwrap();
        }
        let (expected, got) = (model.apply(&op), real.apply(&op).await);
        prop_assert_eq!(expected, got, "{:?}", op);
    }
    real.agrees(&model).await?;
    real.ledger.verify(None).await.unwrap();
    for sums in real.ledger.trial_balance().await.unwrap() {
        prop_assert!(sums.is_balanced());
    }
    Ok(())
}

pub(crate) fn env() -> (Env, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (Env::new(shared, Arc::new(SeededEntropy::new(7))), clock)
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn real(ledger: Arc<dyn Ledger>, clock: Arc<ManualClock>) -> Real {
    let budgets = Budgets::new(Arc::clone(&ledger));
    Real {
        clock,
        ledger,
        budgets,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..<_>::default() })]

    #[test]
    fn in_memory_does_what_the_model_does(ops in ops()) {
        let (env, clock) = env();
        let ledger = Arc::new(InMemoryLedger::new(&env));
        block_on(run(real(ledger, clock), ops))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..<_>::default() })]

    #[test]
    fn sqlite_does_what_the_model_does(ops in ops()) {
        block_on(async {
            let (env, clock) = env();
            let dir = tempfile::tempdir().unwrap();
            let config = Config::new(dir.path().join("pay.db"));
            let db = Db::open(config.with_durability(Durability::Nothing), &env).await.unwrap();
            let ledger = Arc::new(SqliteLedger::open(db).await.unwrap());
            run(real(ledger, clock), ops).await
        })?;
    }
}
