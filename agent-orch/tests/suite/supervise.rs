//! The task that runs a supervision tree, on a clock that moves when told to.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_core::{
    CancellationToken, Env, ErrorKind, Failure, ManualClock, Retry, SeededEntropy, Timestamp,
};
use agent_orch::supervise::{Child, Group, Handle, Notice, Supervise, Watch};
use agent_orch::{OnMeltdown, Strategy, Supervision};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn failure() -> Failure {
    Failure::new(ErrorKind::Internal, Retry::Safe, "test.crash", "m", "f")
}

/// What happened, in order: `+name` for a start, `-name` for an end, and notices.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    notices: Mutex<Vec<Notice>>,
    crashes: BTreeMap<&'static str, Notify>,
}

impl Log {
    fn new(names: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            crashes: names.iter().map(|n| (*n, Notify::new())).collect(),
            ..Self::default()
        })
    }

    fn line(&self, line: String) {
        self.lines.lock().push(line);
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.lines.lock()).join(" ")
    }

    /// Lets others run until there are as many lines.
    async fn until(&self, n_lines: usize) -> String {
        while self.lines.lock().len() < n_lines {
            tokio::task::yield_now().await;
        }
        self.take()
    }

    async fn until_noticed(&self, n_notices: usize) {
        while self.notices.lock().len() < n_notices {
            tokio::task::yield_now().await;
        }
    }

    /// A child that runs until it is stopped or told to crash.
    fn child(self: &Arc<Self>, name: &'static str) -> Child {
        let log = Arc::clone(self);
        Child::new(name, move |signal| {
            let log = Arc::clone(&log);
            async move {
                log.line(format!("+{name}"));
                let ended = tokio::select! {
                    () = signal.canceled() => Ok(()),
                    () = log.crashes.get(name).unwrap().notified() => Err(failure()),
                };
                log.line(format!("-{name}"));
                ended
            }
        })
    }

    fn crash(&self, name: &'static str) {
        self.crashes.get(name).unwrap().notify_one();
    }
}

#[async_trait]
impl Watch for Log {
    async fn notice(&self, notice: Notice) {
        self.notices.lock().push(notice);
    }
}

struct Running {
    handle: Handle,
    clock: Arc<ManualClock>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test waits for the task it spawns"
    )]
    fn start(root: Group, log: &Arc<Log>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let env = Env::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::new(SeededEntropy::new(7)),
        );
        let (tree, handle) = Supervise::new(root, &env, Arc::<Log>::clone(log)).unwrap();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(tree.run(cancel.clone()));
        Self {
            handle,
            clock,
            cancel,
            task,
        }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn children_start_in_order_and_stop_in_reverse() {
    let log = Log::new(&["a", "b", "c", "d"]);
    let inner = Group::new("inner", Supervision::new())
        .with_child(log.child("b"))
        .with_child(log.child("c"));
    let root = Group::new("root", Supervision::new())
        .with_child(log.child("a"))
        .with_group(inner)
        .with_child(log.child("d"));
    let running = Running::start(root, &log);
    assert_eq!(log.until(4).await, "+a +b +c +d");
    assert_eq!(
        running.handle.running().await.unwrap(),
        ["a", "b", "c", "d"]
    );
    running.stop().await;
    assert_eq!(log.take(), "-d -c -b -a");
}

#[tokio::test]
async fn a_crash_restarts_whom_the_strategy_says() {
    for (strategy, expected) in [
        (Strategy::OneForOne, "-b +b"),
        (Strategy::OneForAll, "-b -c -a +a +b +c"),
        (Strategy::RestForOne, "-b -c +b +c"),
    ] {
        let log = Log::new(&["a", "b", "c"]);
        let supervision = Supervision::new().with_strategy(strategy);
        let mut root = Group::new("root", supervision);
        for name in ["a", "b", "c"] {
            root = root.with_child(log.child(name));
        }
        let running = Running::start(root, &log);
        log.until(3).await;
        log.crash("b");
        let n_lines = expected.split(' ').count();
        assert_eq!(log.until(n_lines).await, expected);
        assert!(
            matches!(&log.notices.lock()[..], [Notice::Restarting { child, .. }] if **child == *"b")
        );
        running.stop().await;
    }
}

#[tokio::test]
async fn one_that_does_not_stop_is_aborted_at_its_deadline() {
    let log = Log::new(&["a"]);
    let deaf = Child::new("deaf", |_signal| std::future::pending());
    let root = Group::new("root", Supervision::new().with_shutdown(secs(3)))
        .with_child(log.child("a"))
        .with_child(deaf);
    let running = Running::start(root, &log);
    log.until(1).await;
    running.cancel.cancel();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.take(), "", "`a` waits for the one after it");
    running.clock.advance(secs(3));
    assert_eq!(log.until(1).await, "-a");
    running.stop().await;
}

#[tokio::test]
async fn restarts_wait_longer_and_longer() {
    let log = Log::new(&["a"]);
    let supervision = Supervision::new()
        .with_intensity(10, secs(1))
        .with_delay("2s..5s x2".parse().unwrap());
    let root = Group::new("root", supervision).with_child(log.child("a"));
    let running = Running::start(root, &log);
    log.until(1).await;
    for (n, wait) in [2, 4, 5, 5].into_iter().enumerate() {
        log.crash("a");
        assert_eq!(log.until(1).await, "-a");
        log.until_noticed(n + 1).await;
        running.clock.advance(secs(wait - 1));
        assert!(running.handle.running().await.unwrap().is_empty());
        running.clock.advance(secs(1));
        assert_eq!(log.until(1).await, "+a");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_nested_meltdown_climbs_and_leaves_the_rest_alone() {
    let log = Log::new(&["a", "b", "c"]);
    let escalating = Supervision::new()
        .with_intensity(0, secs(60))
        .with_on_meltdown(OnMeltdown::Escalate);
    let inner = Group::new("inner", escalating).with_child(log.child("a"));
    let outer = Supervision::new()
        .with_strategy(Strategy::OneForAll)
        .with_intensity(1, secs(60));
    let outer = Group::new("outer", outer)
        .with_group(inner)
        .with_child(log.child("b"));
    let root = Group::new("root", Supervision::new())
        .with_group(outer)
        .with_child(log.child("c"));
    let running = Running::start(root, &log);
    log.until(3).await;
    log.crash("a");
    assert_eq!(
        log.until(4).await,
        "-a -b +a +b",
        "the outer one restarts both"
    );
    log.crash("a");
    assert_eq!(log.until(2).await, "-a -b", "and gives up the second time");
    log.until_noticed(4).await;
    let kinds: Vec<_> = log
        .notices
        .lock()
        .drain(..)
        .map(|notice| match notice {
            Notice::Escalated {
                group,
                child,
                failure,
            } => format!("{group}<{child} {}", failure.code),
            Notice::Restarting { child, failure, .. } => format!("again {child} {}", failure.code),
            Notice::Quarantined {
                group,
                child,
                failure,
            } => {
                format!("out {group}<{child} {}", failure.code)
            }
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "inner<a test.crash",
            "again inner test.crash",
            "inner<a test.crash",
            "out outer<inner test.crash",
        ]
    );
    assert_eq!(running.handle.running().await.unwrap(), ["c"]);
    assert_eq!(running.handle.quarantined().await.unwrap(), ["outer"]);
    assert!(
        !running.handle.release("inner").await,
        "only what was given up"
    );
    assert!(running.handle.release("outer").await);
    assert_eq!(log.until(2).await, "+a +b");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_storm_loses_no_restart() {
    const N: u32 = 200;
    const CRASHES: u32 = 25;
    let log = Log::new(&[]);
    let starts = Arc::new(AtomicU32::new(0));
    let supervision = Supervision::new().with_intensity(N * CRASHES, secs(60));
    let mut root = Group::pool("root", supervision);
    for n in 0..N {
        let (starts, own) = (Arc::clone(&starts), Arc::new(AtomicU32::new(0)));
        root = root.with_child(Child::new(format!("child {n}"), move |signal| {
            let (starts, own) = (Arc::clone(&starts), Arc::clone(&own));
            async move {
                starts.fetch_add(1, Ordering::SeqCst);
                let n = own.fetch_add(1, Ordering::SeqCst);
                assert!(n % 2 == 0 || n >= CRASHES, "a panic, every other time");
                if n < CRASHES {
                    return Err(failure());
                }
                signal.canceled().await;
                Ok(())
            }
        }));
    }
    let running = Running::start(root, &log);
    let total = usize::try_from(N * CRASHES).unwrap();
    log.until_noticed(total).await;
    while running.handle.running().await.unwrap().len() < usize::try_from(N).unwrap() {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.notices.lock().len(), total);
    running.stop().await;
    assert_eq!(starts.load(Ordering::SeqCst), N * (CRASHES + 1));
}

#[tokio::test]
async fn children_come_and_go() {
    let log = Log::new(&["a", "b"]);
    let root = Group::new("root", Supervision::new()).with_child(log.child("a"));
    let running = Running::start(root, &log);
    let handle = &running.handle;
    handle.add("root", vec![log.child("b")]).await.unwrap();
    assert_eq!(log.until(2).await, "+a +b");
    assert!(
        handle.add("root", vec![log.child("b")]).await.is_err(),
        "the name is taken"
    );
    assert!(handle.add("nowhere", vec![log.child("c")]).await.is_err());
    handle.remove("a", None).await;
    assert_eq!(log.take(), "-a");
    let busy = Arc::new(Notify::new());
    let told = Arc::clone(&busy);
    let draining = Child::new("draining", move |signal| {
        let told = Arc::clone(&told);
        async move {
            signal.draining().await;
            tokio::select! {
                () = told.notified() => {}
                () = signal.canceled() => {}
            }
            Ok(())
        }
    });
    let group = Group::pool("more", Supervision::new());
    handle
        .add_group("root", group.with_child(draining.clone()))
        .await
        .unwrap();
    let removed = handle.remove("draining", Some(secs(60)));
    let (_gone, ()) = tokio::join!(removed, async {
        assert_eq!(handle.running().await.unwrap(), ["b", "draining"]);
        busy.notify_one();
    });
    handle.add("more", vec![draining]).await.unwrap();
    let removed = handle.remove("draining", Some(secs(60)));
    let (_gone, ()) = tokio::join!(removed, async {
        assert_eq!(handle.running().await.unwrap(), ["b", "draining"]);
        running.clock.advance(secs(60));
    });
    handle.remove("more", None).await;
    assert!(handle.add("more", Vec::new()).await.is_err(), "it is gone");
    running.stop().await;
}
