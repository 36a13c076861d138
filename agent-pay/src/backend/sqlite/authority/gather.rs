//! Spends of several callers in one write, so that what all of them read and change is read and
//! written once: the head of the journal, the budgets above them, the kill switch.
//!
//! ```text
//!  callers ──► open group ──► the writer reaches it
//!                             one desk · spend 1 · spend 2 · … until nobody else has come
//!                             nobody joins it any more · rows, balances and head
//!                             commit, together with other writes ──► all callers of the group
//! ```
//!
//! The first caller of a group queues its write and nobody waits for a timer: who comes while the
//! writer is busy joins, also when it is busy with the group itself. A group whose write fails
//! leaves nothing, and each of its callers writes alone.

use std::fmt;
use std::sync::Arc;

use agent_core::store::Db;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

use super::desk::Desk;
use super::nodes::PolicyCache;
use crate::error::{Error, Result};

/// The most spends of a group, so that other writes need not wait long behind one.
const GROUP_MAX: usize = 256;

/// What a caller asks for, and whether it came about.
trait Ask: Send + Sync {
    /// Runs it and keeps the answer; false if it failed and the transaction is no longer what it was
    /// before: it had written something, or SQLite gave the whole transaction up.
    fn run(&self, desk: &mut Desk<'_, '_>) -> bool;
}

struct Asked<T, F> {
    work: F,
    answer: Mutex<Option<Result<T>>>,
}

impl<T, F> Ask for Asked<T, F>
where
    F: Fn(&mut Desk<'_, '_>) -> Result<T> + Send + Sync,
    T: Send,
{
    fn run(&self, desk: &mut Desk<'_, '_>) -> bool {
        let n_changes = desk.n_changes();
        let answer = (self.work)(desk);
        // When it cannot read or write SQLite undoes also what others wrote, and each statement after
        // that would be a transaction of its own.
        let is_undone = desk.tx.sql().is_autocommit();
        let is_unchanged = desk.n_changes() == n_changes;
        let is_whole = !is_undone && (answer.is_ok() || is_unchanged);
        *self.answer.lock() = Some(answer);
        is_whole
    }
}

/// Callers whose spends are one write. None once nobody may join them any more.
type Asks = Mutex<Option<Open>>;

struct Open {
    /// Those the writer has not reached yet.
    waiting: Vec<Arc<dyn Ask>>,
    /// How many ever joined.
    n_joined: usize,
}

/// Takes those who wait; if nobody does, nobody joins any more.
fn next(asks: &Asks) -> Option<Vec<Arc<dyn Ask>>> {
    let mut open = asks.lock();
    let waiting = std::mem::take(&mut open.as_mut()?.waiting);
    if waiting.is_empty() {
        *open = None;
        return None;
    }
    Some(waiting)
}

/// Whether a group was committed. All its callers drive it, so that it goes on when some of them
/// leave.
type Done = BoxFuture<'static, bool>;

struct Group {
    asks: Arc<Asks>,
    /// Weak, so that it ends when all callers left: if it was not queued by then, what they asked for
    /// must not happen when somebody else comes.
    done: Option<WeakShared<Done>>,
}

impl Group {
    fn open(first: Arc<dyn Ask>, db: Db, cache: Arc<PolicyCache>) -> (Self, Shared<Done>) {
        let waiting = vec![first];
        let asks: Arc<Asks> = Arc::new(Mutex::new(Some(Open {
            waiting,
            n_joined: 1,
        })));
        let (queued, unreached) = (Arc::clone(&asks), Arc::clone(&asks));
        let done = async move {
            let write = db.write(move |tx| {
                Desk::with(tx, &cache, |desk| {
                    while let Some(asks) = next(&queued) {
                        if !asks.iter().all(|ask| ask.run(desk)) {
                            return Err(Error::corrupt("a spend failed when it had written"));
                        }
                    }
                    Ok(())
                })
            });
            let is_done = write.await.is_ok();
            // A write that failed, or that the writer never reached, must not take in anybody else.
            drop(unreached.lock().take());
            is_done
        };
        let done = done.boxed().shared();
        let group = Self {
            asks,
            done: done.downgrade(),
        };
        (group, done)
    }

    fn admit(&self, ask: &Arc<dyn Ask>) -> Option<Shared<Done>> {
        let done = self.done.as_ref().and_then(WeakShared::upgrade)?;
        match self.asks.lock().as_mut() {
            Some(open) if open.n_joined < GROUP_MAX => {
                open.waiting.push(Arc::clone(ask));
                open.n_joined = open.n_joined.saturating_add(1);
                Some(done)
            }
            _ => None,
        }
    }
}

/// The spends of one authority on their way to the writer.
pub(super) struct Gather {
    db: Db,
    cache: Arc<PolicyCache>,
    open: Mutex<Option<Group>>,
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").finish_non_exhaustive()
    }
}

impl Gather {
    pub(super) const fn new(db: Db, cache: Arc<PolicyCache>) -> Self {
        Self {
            db,
            cache,
            open: Mutex::new(None),
        }
    }

    /// Runs some work within a group and returns its answer when it is durable. The work may run
    /// twice, and what it did the first time is undone then.
    pub(super) async fn ask<T, F>(&self, work: F) -> Result<T>
    where
        F: Fn(&mut Desk<'_, '_>) -> Result<T> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let answer = Mutex::new(None);
        let asked = Arc::new(Asked { work, answer });
        let is_done = self.join(Arc::<Asked<T, F>>::clone(&asked)).await;
        if is_done && let Some(answer) = asked.answer.lock().take() {
            return answer;
        }
        let cache = Arc::clone(&self.cache);
        self.db
            .write(move |tx| Desk::with(tx, &cache, |desk| (asked.work)(desk)))
            .await
    }

    fn join(&self, ask: Arc<dyn Ask>) -> Shared<Done> {
        let mut open = self.open.lock();
        if let Some(done) = open.as_ref().and_then(|group| group.admit(&ask)) {
            return done;
        }
        let (group, done) = Group::open(ask, self.db.clone(), Arc::clone(&self.cache));
        *open = Some(group);
        done
    }
}
