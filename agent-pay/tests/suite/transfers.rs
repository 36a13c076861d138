//! Random batches against a reference of `TigerBeetle`'s documented semantics: an exact repetition
//! exists, a changed one differs, refusals pin their key where asked, pending transfers are posted,
//! voided or expired once, linked sets happen whole or not at all, debits never exceed credits.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod model;

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Amount, Asset, IdempotencyKey, ManualClock, Timestamp};
use agent_pay::backend::{InMemoryLedger, SqliteLedger};
use agent_pay::{AccountName, Batch, Entry, Error, Guard, Ledger, LedgerExt, Resolution, State};
use model::{Fate, Model, Sums};
use proptest::prelude::*;

use crate::model::{block_on, env};

const ACCOUNTS: [&str; 4] = ["world", "a", "b", "c"];

/// From, to, how much, and whether it is only held.
type Line = (usize, usize, i64, bool);

#[derive(Clone, Debug)]
pub(crate) enum Op {
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
pub(crate) enum Code {
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
