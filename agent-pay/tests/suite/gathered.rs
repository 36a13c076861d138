//! Spends of several callers in one write: each has its own answer, one that fails harms no other,
//! and those who leave take nobody with them.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::mpsc;

use crate::common::{Shop, money, op};
use agent_core::store::Config;
use agent_core::{Asset, Classify, ErrorKind};
use agent_pay::authority::{Authorization, Intent, Movement, SpendState};
use agent_pay::{AccountName, Batch, Entry, Guard, Ledger, Result};
use tokio::task::JoinSet;

const POLICY: &str = "[node.acme]\nlimits = [\"100.00 USD lifetime\", \"90.00 USD rolling 1h\"]\n\
     first_payee = \"allow\"\n[node.\"acme/a\"]\nlimits = [\"12.00 USD lifetime\", \"50 count day\"]";

/// Keeps the writer busy until all have asked, so that they are one group. The first `n_gone` do not
/// wait for their answers.
async fn at_once(
    shop: &Shop,
    intents: Vec<Intent>,
    n_gone: usize,
) -> BTreeMap<usize, Result<Authorization>> {
    let (go, wait) = mpsc::channel::<()>();
    let (busy, is_busy) = tokio::sync::oneshot::channel();
    let db = shop.authority.db().clone();
    let mut blocker = JoinSet::new();
    blocker.spawn(async move {
        let busy_write = db.write(move |_tx| {
            busy.send(()).unwrap();
            wait.recv().unwrap();
            Ok::<_, agent_pay::Error>(())
        });
        // It shares the commit of those behind it, and their failure.
        let _undone = busy_write.await;
    });
    is_busy.await.unwrap();
    let (mut asking, mut handles) = (JoinSet::new(), Vec::new());
    for (n, intent) in intents.into_iter().enumerate() {
        let authority = shop.authority.clone();
        handles.push(asking.spawn(async move { (n, authority.authorize(intent).await) }));
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    handles.iter().take(n_gone).for_each(|gone| gone.abort());
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    blocker.join_all().await;
    let mut answers = BTreeMap::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer.ok());
    }
    answers
}

fn intents(shop: &Shop, n: usize) -> Vec<Intent> {
    let intent = |n| shop.intent(&format!("spend-{n}"), "acme/a", "1.00 USD");
    (0..n).map(intent).collect()
}

#[tokio::test]
async fn callers_at_the_same_time_share_a_write_and_not_their_answers() {
    let shop = Shop::open(POLICY).await;
    let before = shop.authority.db().stats().writes;
    let answers = at_once(&shop, intents(&shop, 20), 0).await;
    // The write that kept the writer busy, and one for all.
    assert_eq!(shop.authority.db().stats().writes - before, 2);
    assert_eq!(answers.len(), 20);
    for (n, answer) in answers {
        match answer.unwrap() {
            // The first twelve fit into the budget.
            Authorization::Held {
                hold, is_replayed, ..
            } => {
                assert!(n < 12 && !is_replayed, "{n}");
                assert_eq!(hold.key, op(&format!("spend-{n}")));
            }
            Authorization::Denied(refusal) => assert!(n >= 12, "{n}: {refusal:?}"),
            other => assert!(n > 100, "{other:?}"),
        }
    }
    for n in 0..12 {
        shop.capture(&format!("spend-{n}"), "0.50 USD").await;
    }
    shop.check().await;
    let shop = shop.restart().await;
    let spend = shop.authority.spend(op("spend-11")).await.unwrap().unwrap();
    assert_eq!(spend.state, SpendState::Captured);
    shop.check().await;
}

#[tokio::test]
async fn one_that_fails_undoes_nothing_of_the_others() {
    let shop = Shop::open(POLICY).await;
    let name = |text: &str| AccountName::new(text).unwrap();
    let open = Entry::open(Asset::USD, name("mint"), Guard::Unguarded);
    shop.ledger
        .post(Batch::new(op("open"), vec![open]))
        .await
        .unwrap();
    shop.held(&shop.intent("used", "acme/a", "2.00 USD")).await;
    let mut all = intents(&shop, 10);
    // Both fail before anything is written.
    let nowhere = Movement::new(name("mint"), name("nowhere"));
    all[3] = all[3].clone().with_movement(nowhere);
    all[5] = shop.intent("used", "acme/a", "3.00 USD");
    let before = shop.authority.db().stats().writes;
    let answers = at_once(&shop, all, 0).await;
    // The write that kept the writer busy, and one for all: nobody had to begin again.
    assert_eq!(shop.authority.db().stats().writes - before, 2);
    for (n, answer) in answers {
        match (n, answer) {
            (3, Err(error)) => assert_eq!(error.kind(), ErrorKind::NotFound),
            (5, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict),
            (_, answer) => {
                let hold = answer.unwrap().into_hold().unwrap();
                assert_eq!(hold.amount, money("1.00 USD"), "{n}");
            }
        }
    }
    // Of the one that failed nothing is there: nine decisions, one after another.
    assert!(shop.authority.decision(9).await.unwrap().is_some());
    assert!(shop.authority.decision(10).await.unwrap().is_none());
    assert_eq!(shop.authority.spend(op("spend-3")).await.unwrap(), None);
    shop.check().await;
}

/// Makes the fourth spend fail at a statement, as `kind` of SQLite has it.
async fn plant(shop: &Shop, kind: &str, place: &str) {
    let trigger = format!(
        "CREATE TRIGGER planted BEFORE INSERT ON {place} BEGIN SELECT RAISE({kind}, 'planted'); END"
    );
    run(shop, trigger).await;
}

async fn run(shop: &Shop, statement: String) {
    let write = shop.authority.db().write(move |tx| {
        let done = tx.sql().execute_batch(&statement);
        done.map_err(agent_core::store::sql("plant a fault"))
    });
    write.await.unwrap();
}

/// One whose statement fails when it had written, and one at whose first statement SQLite gives the
/// whole transaction up, as it does when it cannot read or write.
#[tokio::test]
async fn a_write_that_is_undone_leaves_nothing_of_any_caller() {
    for (kind, place) in [
        ("ABORT", "pay_batch WHEN NEW.key = 'spend-3'"),
        (
            "ROLLBACK",
            "pay_decision WHEN instr(NEW.intent, 'spend-3') > 0",
        ),
    ] {
        let shop = Shop::open(POLICY).await;
        plant(&shop, kind, place).await;
        for (n, answer) in at_once(&shop, intents(&shop, 10), 0).await {
            // Whose write was undone together with the one that fails has to ask again.
            assert!(n != 3 || answer.is_err(), "{kind}");
            assert!(n == 3 || kind == "ROLLBACK" || answer.is_ok(), "{kind}");
        }
        shop.check().await;
        run(&shop, "DROP TRIGGER planted".to_owned()).await;
        for intent in intents(&shop, 10) {
            shop.held(&intent).await;
        }
        assert!(shop.authority.decision(10).await.unwrap().is_some());
        assert!(shop.authority.decision(11).await.unwrap().is_none());
        shop.check().await;
    }
}

/// While the queue of the writer is full nothing of a group is queued.
#[tokio::test]
async fn what_all_left_before_it_was_queued_does_not_happen_later() {
    let shop = Shop::open(POLICY).await;
    let (go, wait) = mpsc::channel::<()>();
    let mut writes = JoinSet::new();
    let db = shop.authority.db().clone();
    writes.spawn(async move {
        let write = db.write(move |_tx| {
            wait.recv().unwrap();
            Ok::<_, agent_pay::Error>(())
        });
        write.await.unwrap();
    });
    for _ in 0..=Config::QUEUE_MAX {
        let db = shop.authority.db().clone();
        writes.spawn(async move {
            let write = db.write(|_tx| Ok::<_, agent_pay::Error>(()));
            write.await.unwrap();
        });
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let left = shop.intent("spend-0", "acme/a", "1.00 USD");
    let mut asking = Box::pin(shop.authority.authorize(left));
    assert!(futures_util::poll!(&mut asking).is_pending());
    drop(asking);
    go.send(()).unwrap();
    writes.join_all().await;
    shop.held(&shop.intent("spend-1", "acme/a", "1.00 USD"))
        .await;
    assert_eq!(shop.authority.spend(op("spend-0")).await.unwrap(), None);
    shop.check().await;
}

#[tokio::test]
async fn those_who_leave_take_nobody_with_them() {
    let shop = Shop::open(POLICY).await;
    let answers = at_once(&shop, intents(&shop, 5), 2).await;
    assert_eq!(answers.len(), 3);
    for (_n, answer) in answers {
        assert!(matches!(
            answer.unwrap(),
            Authorization::Held {
                is_replayed: false,
                ..
            }
        ));
    }
    // What had been asked happens all the same, as for any write that is queued.
    for n in 0..2 {
        let spend = shop.authority.spend(op(&format!("spend-{n}")));
        assert_eq!(spend.await.unwrap().unwrap().state, SpendState::Held);
    }
    shop.check().await;
}

/// Waits until the writer has begun a transaction some time ago.
fn wait_until_it_writes(shop: &Shop) {
    let other = rusqlite::Connection::open(shop.authority.db().path()).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    let mut n_busy = 0;
    while n_busy < 1_000 {
        match other.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => n_busy = 0,
            Err(_busy) => n_busy += 1,
        }
    }
}

#[tokio::test]
async fn who_comes_while_the_writer_is_busy_with_a_group_joins_it() {
    let shop = Shop::open(POLICY).await;
    // The first to be counted on a day opens the account of that, which takes a while.
    let slow = "CREATE TRIGGER slow AFTER INSERT ON pay_account BEGIN SELECT count(*) FROM (\
                WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2000000) \
                SELECT x FROM c); END";
    run(&shop, slow.to_owned()).await;
    let before = shop.authority.db().stats();
    let mut asking: Vec<_> = intents(&shop, 5)
        .into_iter()
        .map(|intent| Box::pin(shop.authority.authorize(intent)))
        .collect();
    for (n, asked) in asking.iter_mut().enumerate() {
        assert!(futures_util::poll!(asked).is_pending());
        if n == 0 {
            wait_until_it_writes(&shop);
        }
    }
    for asked in asking {
        asked.await.unwrap().into_hold().unwrap();
    }
    let after = shop.authority.db().stats();
    assert_eq!(after.writes - before.writes, 1);
    run(&shop, "DROP TRIGGER slow".to_owned()).await;
    shop.check().await;
}

#[tokio::test]
async fn those_behind_find_what_was_done_before_them_in_the_same_write() {
    let shop = Shop::open(POLICY).await;
    let authority = &shop.authority;
    let (go, wait) = mpsc::channel::<()>();
    let blocked = authority.db().write(move |_tx| {
        wait.recv().unwrap();
        Ok::<_, agent_pay::Error>(())
    });
    let mut blocked = Box::pin(blocked);
    assert!(futures_util::poll!(&mut blocked).is_pending());
    let before = authority.db().stats().writes;
    let ask =
        |key: &str, amount: &str| Box::pin(authority.authorize(shop.intent(key, "acme/a", amount)));
    let mut asked = [
        ask("one", "2.00 USD"),
        ask("one", "2.00 USD"),
        ask("one", "3.00 USD"),
        ask("two", "1.00 USD"),
    ];
    for ask in &mut asked {
        assert!(futures_util::poll!(ask).is_pending());
    }
    let capture = |amount| Box::pin(authority.capture(op("one"), money(amount)));
    let mut ended = [
        capture("1.50 USD"),
        capture("1.50 USD"),
        capture("1.00 USD"),
    ];
    for end in &mut ended {
        assert!(futures_util::poll!(end).is_pending());
    }
    let mut late = Box::pin(authority.release(op("one")));
    assert!(futures_util::poll!(&mut late).is_pending());
    let mut more = [ask("one", "2.00 USD"), ask("three", "9.25 USD")];
    for ask in &mut more {
        assert!(futures_util::poll!(ask).is_pending());
    }
    go.send(()).unwrap();
    blocked.await.unwrap();
    let mut answers = Vec::new();
    for ask in asked.into_iter().chain(more) {
        answers.push(match ask.await {
            Ok(Authorization::Held {
                hold, is_replayed, ..
            }) => (Some(hold.state), is_replayed),
            Ok(Authorization::Denied(_)) => (None, false),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                (None, true)
            }
        });
    }
    let held = |is_replayed| (Some(SpendState::Held), is_replayed);
    // Of twelve 1.50 are spent and 1.00 is held when 9.25 are asked for.
    let captured = (Some(SpendState::Captured), true);
    let expected = [held(false), held(true), (None, true), held(false), captured];
    assert_eq!(answers, [expected.as_slice(), &[held(false)]].concat());
    for (n, end) in ended.into_iter().enumerate() {
        match end.await {
            Ok(spend) => assert_eq!((n < 2, spend.captured), (true, money("1.50 USD"))),
            Err(error) => assert_eq!((n, error.kind()), (2, ErrorKind::Conflict)),
        }
    }
    assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(authority.db().stats().writes - before, 2);
    shop.check().await;
}

#[tokio::test]
async fn what_expires_in_a_sweep_leaves_its_windows_in_the_same() {
    let shop = Shop::open(POLICY).await;
    shop.held(&shop.intent("one", "acme/a", "2.00 USD")).await;
    // The window is as long as the hold.
    shop.wait(3_601);
    assert_eq!(shop.authority.sweep(10).await.unwrap(), 2);
    let waits = shop.authority.db().read(|tx| {
        let select = "SELECT count(*) FROM pay_rolling";
        let n_rows = tx.sql().query_row(select, [], |row| row.get::<_, u32>(0));
        n_rows.map_err(agent_core::store::sql("count what is in windows"))
    });
    assert_eq!(waits.await.unwrap(), 0);
    shop.check().await;
}
