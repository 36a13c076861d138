//! Random batches against a reference of `TigerBeetle`'s documented semantics: an exact repetition
//! exists, a changed one differs, refusals pin their key where asked, pending transfers are posted,
//! voided or expired once, linked sets happen whole or not at all, debits never exceed credits.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{
    Amount, Asset, Clock, Env, IdempotencyKey, ManualClock, SeededEntropy, Timestamp,
};
use agent_pay::backend::{InMemoryLedger, SqliteLedger};
use agent_pay::{AccountName, Batch, Entry, Error, Guard, Ledger, LedgerExt, Resolution, State};
use proptest::prelude::*;

const ACCOUNTS: [&str; 4] = ["world", "a", "b", "c"];

/// From, to, how much, and whether it is only held.
type Line = (usize, usize, i64, bool);

#[derive(Clone, Debug)]
enum Op {
    Create {
        id: u8,
        lines: Vec<Line>,
        timeout: Option<u64>,
        pins: bool,
    },
    Post {
        id: u8,
        amounts: Vec<i64>,
    },
    Void {
        id: u8,
    },
    Reverse {
        id: u8,
    },
    Wait(u64),
    Expire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Ok,
    Exists,
    ExistsWithDifferent,
    ExceedsCredits,
    AlreadyFailed,
    NotFound,
    NotPending,
    AlreadyResolved,
    Expired,
    ExceedsPending,
    Invalid,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let line = (0..4_usize, 0..4_usize, 0..30_i64, any::<bool>())
        .prop_filter("two accounts", |line| line.0 != line.1);
    let lines = proptest::collection::vec(line, 1..4);
    let create = (
        0..10_u8,
        lines,
        proptest::option::of(1..40_u64),
        any::<bool>(),
    );
    let op = prop_oneof![
        8 => create.prop_map(|(id, lines, timeout, pins)| Op::Create { id, lines, timeout, pins }),
        4 => (0..10_u8, proptest::collection::vec(0..30_i64, 1..4))
            .prop_map(|(id, amounts)| Op::Post { id, amounts }),
        2 => (0..10_u8).prop_map(|id| Op::Void { id }),
        1 => (0..10_u8).prop_map(|id| Op::Reverse { id }),
        2 => (1..20_u64).prop_map(Op::Wait),
        1 => Just(Op::Expire),
    ];
    proptest::collection::vec(op, 1..80)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    debits_pending: i64,
    debits_posted: i64,
    credits_pending: i64,
    credits_posted: i64,
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Pending,
    Posted(Vec<i64>),
    Voided,
    Expired,
}

struct Known {
    body: (Vec<Line>, Option<u64>),
    fate: Fate,
    /// What was taken back.
    reversed: Option<Vec<Line>>,
}

#[derive(Default)]
struct Model {
    now: u64,
    sums: [Sums; 4],
    known: BTreeMap<u8, Known>,
    failed: BTreeMap<u8, (Vec<Line>, Option<u64>)>,
}

impl Model {
    fn is_sound(sums: &[Sums; 4]) -> bool {
        let guarded = sums.iter().skip(1);
        let mut all = guarded.map(|s| s.debits_pending + s.debits_posted <= s.credits_posted);
        all.all(|holds| holds)
    }

    fn create(&mut self, id: u8, body: (Vec<Line>, Option<u64>), pins: bool) -> Code {
        if let Some(known) = self.known.get(&id) {
            let is_same = known.body == body;
            return if is_same {
                Code::Exists
            } else {
                Code::ExistsWithDifferent
            };
        }
        if let Some(failed) = self.failed.get(&id) {
            let is_same = *failed == body;
            return if is_same {
                Code::AlreadyFailed
            } else {
                Code::ExistsWithDifferent
            };
        }
        let mut sums = self.sums;
        for (debit, credit, units, is_pending) in &body.0 {
            if *is_pending {
                sums[*debit].debits_pending += units;
                sums[*credit].credits_pending += units;
            } else {
                sums[*debit].debits_posted += units;
                sums[*credit].credits_posted += units;
            }
            if !Self::is_sound(&sums) {
                if pins {
                    self.failed.insert(id, body);
                }
                return Code::ExceedsCredits;
            }
        }
        self.sums = sums;
        let holds = body.0.iter().any(|line| line.3);
        let fate = if holds {
            Fate::Pending
        } else {
            Fate::Posted(Vec::new())
        };
        self.known.insert(
            id,
            Known {
                body,
                fate,
                reversed: None,
            },
        );
        Code::Ok
    }

    fn end(&mut self, id: u8, fate: Fate) -> Code {
        let Some(known) = self.known.get_mut(&id) else {
            return Code::NotFound;
        };
        let holds: Vec<Line> = known.body.0.iter().copied().filter(|line| line.3).collect();
        if holds.is_empty() {
            return Code::NotPending;
        }
        if let Fate::Posted(amounts) = &fate
            && amounts.len() != holds.len()
        {
            return Code::Invalid;
        }
        if known.fate != Fate::Pending {
            return if known.fate == fate {
                Code::Exists
            } else {
                Code::AlreadyResolved
            };
        }
        let mut amounts = vec![0; holds.len()];
        if let Fate::Posted(posted) = &fate {
            if known.body.1.is_some_and(|end| end <= self.now) {
                return Code::Expired;
            }
            if posted
                .iter()
                .zip(&holds)
                .any(|(amount, line)| *amount > line.2)
            {
                return Code::ExceedsPending;
            }
            amounts.clone_from(posted);
        }
        known.fate = fate;
        for ((debit, credit, units, _), amount) in holds.into_iter().zip(amounts) {
            self.sums[debit].debits_pending -= units;
            self.sums[credit].credits_pending -= units;
            self.sums[debit].debits_posted += amount;
            self.sums[credit].credits_posted += amount;
        }
        Code::Ok
    }

    fn reverse(&mut self, id: u8) -> Code {
        let Some(known) = self.known.get(&id) else {
            return Code::NotFound;
        };
        let mut moved: Vec<Line> = known.body.0.iter().copied().filter(|l| !l.3).collect();
        if let Fate::Posted(amounts) = &known.fate {
            let holds = known.body.0.iter().filter(|l| l.3);
            moved.extend(
                holds
                    .zip(amounts)
                    .map(|(l, amount)| (l.0, l.1, *amount, false)),
            );
        }
        moved.retain(|line| line.2 != 0);
        if moved.is_empty() {
            return Code::Invalid;
        }
        match &known.reversed {
            Some(before) if *before == moved => return Code::Exists,
            // More was captured since: the same key would take back something else.
            Some(_) => return Code::ExistsWithDifferent,
            None => {}
        }
        let mut sums = self.sums;
        for (debit, credit, units, _) in moved.iter().rev() {
            sums[*debit].debits_posted -= units;
            sums[*credit].credits_posted -= units;
            // The ledger checks the credited account: its credits fall.
            if !Self::is_sound(&sums) {
                return Code::ExceedsCredits;
            }
        }
        self.sums = sums;
        if let Some(known) = self.known.get_mut(&id) {
            known.reversed = Some(moved);
        }
        Code::Ok
    }

    fn apply(&mut self, op: &Op) -> Code {
        match op.clone() {
            Op::Create {
                id,
                lines,
                timeout,
                pins,
            } => self.create(id, (lines, timeout), pins),
            Op::Post { id, amounts } => self.end(id, Fate::Posted(amounts)),
            Op::Void { id } => self.end(id, Fate::Voided),
            Op::Reverse { id } => self.reverse(id),
            Op::Wait(ms) => {
                self.now += ms;
                Code::Ok
            }
            Op::Expire => {
                let due: Vec<u8> = self
                    .known
                    .iter()
                    .filter(|(_, k)| {
                        k.fate == Fate::Pending && k.body.1.is_some_and(|e| e <= self.now)
                    })
                    .map(|(id, _)| *id)
                    .collect();
                for id in due {
                    self.end(id, Fate::Expired);
                }
                Code::Ok
            }
        }
    }
}

fn name(n: usize) -> AccountName {
    AccountName::new(ACCOUNTS[n]).unwrap()
}

fn key(id: u8) -> IdempotencyKey {
    IdempotencyKey::new(format!("t{id}")).unwrap()
}

fn usd(units: i64) -> Amount {
    Amount::from_units(i128::from(units), Asset::USD)
}

async fn apply(ledger: &dyn Ledger, clock: &ManualClock, op: &Op, was_there: bool) -> Code {
    let fresh = if was_there { Code::Exists } else { Code::Ok };
    let result = match op.clone() {
        Op::Create {
            id,
            lines,
            timeout,
            pins,
        } => {
            let entry = |(debit, credit, units, is_pending): Line| {
                let make = if is_pending { Entry::hold } else { Entry::post };
                make(name(debit), name(credit), usd(units))
            };
            let mut batch = Batch::new(key(id), lines.into_iter().map(entry).collect());
            batch.expires_at =
                timeout.map(|ms| Timestamp::from_unix_ms(i64::try_from(ms).unwrap()));
            if pins {
                batch = batch.with_pinned_refusal();
            }
            ledger.post(batch).await
        }
        Op::Post { id, amounts } => {
            let amounts = amounts.into_iter().map(usd).collect();
            ledger
                .resolve(key(id), Resolution::CaptureEach(amounts))
                .await
        }
        Op::Void { id } => ledger.resolve(key(id), Resolution::Void).await,
        Op::Reverse { id } => ledger.reverse(key(id)).await,
        Op::Wait(ms) => {
            clock.advance(Duration::from_millis(ms));
            return Code::Ok;
        }
        Op::Expire => {
            ledger.expire(1_000).await.unwrap();
            return Code::Ok;
        }
    };
    match result {
        Ok(_) => fresh,
        Err(Error::KeyReused { .. }) => Code::ExistsWithDifferent,
        Err(Error::Insufficient(_)) => Code::ExceedsCredits,
        Err(Error::AlreadyFailed { .. }) => Code::AlreadyFailed,
        Err(Error::KeyNotFound { .. }) => Code::NotFound,
        Err(Error::Resolved { .. }) => Code::AlreadyResolved,
        Err(Error::Expired { .. }) => Code::Expired,
        Err(Error::ExceedsHold { .. }) => Code::ExceedsPending,
        Err(Error::Invalid {
            what: "resolution",
            reason,
            ..
        }) if reason.contains("holds nothing") => Code::NotPending,
        Err(_) => Code::Invalid,
    }
}

async fn run(
    ledger: Arc<dyn Ledger>,
    clock: Arc<ManualClock>,
    ops: Vec<Op>,
) -> Result<(), TestCaseError> {
    let guard = |n: usize| match n {
        0 => Guard::Unguarded,
        _ => Guard::DebitsMustNotExceedCredits,
    };
    let entries = (0..4)
        .map(|n| Entry::open(Asset::USD, name(n), guard(n)))
        .collect();
    ledger
        .post(Batch::new(IdempotencyKey::new("open").unwrap(), entries))
        .await
        .unwrap();
    let mut model = Model::default();
    for mut op in ops {
        if let Op::Create {
            timeout: Some(timeout),
            ..
        } = &mut op
        {
            *timeout += model.now;
        }
        let n_batches = ledger.verify(None).await.unwrap().anchor.seq;
        let expected = model.apply(&op);
        let got = apply(&*ledger, &clock, &op, expected == Code::Exists).await;
        prop_assert_eq!(expected, got, "{:?}", op);
        let n_new = ledger.verify(None).await.unwrap().anchor.seq - n_batches;
        let may_write = expected == Code::Ok && !matches!(op, Op::Wait(_));
        prop_assert!(n_new == 0 || may_write, "{:?} wrote", op);
        for (n, sums) in model.sums.iter().enumerate() {
            let b = ledger.account(Asset::USD, name(n)).await.unwrap().balances;
            let real = Sums {
                debits_pending: b.debits_pending,
                debits_posted: b.debits_posted,
                credits_pending: b.credits_pending,
                credits_posted: b.credits_posted,
            };
            prop_assert_eq!(real, *sums, "{} after {:?}", ACCOUNTS[n], op);
        }
    }
    for (id, known) in &model.known {
        let state = ledger.find(key(*id)).await.unwrap().unwrap().state;
        let is_over = known.body.1.is_some_and(|end| end <= model.now);
        let expected = match known.fate {
            Fate::Pending if is_over => State::Expired,
            Fate::Pending => State::Pending,
            Fate::Posted(_) => State::Posted,
            Fate::Voided => State::Voided,
            Fate::Expired => State::Expired,
        };
        prop_assert_eq!(state, expected);
    }
    Ok(())
}

fn env() -> (Env, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (Env::new(shared, Arc::new(SeededEntropy::new(7))), clock)
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..<_>::default() })]

    #[test]
    fn in_memory_ledger_does_what_the_reference_does(ops in ops()) {
        let (env, clock) = env();
        block_on(run(Arc::new(InMemoryLedger::new(&env)), clock, ops))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 8, ..<_>::default() })]

    #[test]
    fn sqlite_ledger_does_what_the_reference_does(ops in ops()) {
        block_on(async {
            let (env, clock) = env();
            let dir = tempfile::tempdir().unwrap();
            let config = Config::new(dir.path().join("pay.db"));
            let db = Db::open(config.with_durability(Durability::Nothing), &env).await.unwrap();
            run(Arc::new(SqliteLedger::open(db).await.unwrap()), clock, ops).await
        })?;
    }
}
