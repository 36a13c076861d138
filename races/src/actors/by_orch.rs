//! `agent-orch`: children of a supervision tree, each with a mailbox that outlives it, and every
//! restart written into a journal that survives power loss.
//!
//! Recording is queued, as in a supervised fleet: a child starts again while the record of its
//! restart is on the way to the disk, and the round ends when all are there.

use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db};
use agent_core::{CancellationToken, Env, ErrorKind, Event, Failure, Principal, Retry, Scope};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::supervise::{Child, Group, Handle, Notice, Signal, Supervise, Watch};
use agent_orch::{Journal, Restart, Supervision};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::{ACTORS, CRASHES, Stage};
use crate::host::Host;

/// Longer than the race: all crashes of a round are within the limit.
const WINDOW: Duration = Duration::from_secs(600);
/// The mailbox of a `kameo` actor holds as many by default.
const MAILBOX: usize = 64;
/// Notices that wait for the disk: more than crash, so that the disk is not what is measured.
const NOTICES: usize = 2_048;

struct Crash;

/// Queues what supervision does for whoever writes it down.
#[derive(Debug)]
struct Recorder(mpsc::Sender<Notice>);

#[async_trait]
impl Watch for Recorder {
    async fn notice(&self, notice: Notice) {
        // If nobody writes, the count at the end of the round says so.
        let _closing = self.0.send(notice).await;
    }
}

/// The journal, open before anything is measured.
pub(super) struct Record {
    db: Db,
    journal: Arc<dyn Journal>,
    env: Env,
    _dir: TempDir,
}

impl Record {
    pub(super) async fn open(host: &Host) -> Result<Self> {
        let dir = host.directory()?;
        let db = Db::open(Config::new(dir.path().join("orch.db")), &host.env).await?;
        let journal = Sqlite::open(db.clone(), host.env.clone()).await?;
        Ok(Self {
            db,
            journal: Arc::new(journal),
            env: host.env.clone(),
            _dir: dir,
        })
    }
}

pub(super) struct Troupe {
    mailboxes: Vec<mpsc::Sender<Crash>>,
    cancel: CancellationToken,
    /// The tree lives as long as somebody can speak to it.
    _handle: Handle,
    running: JoinSet<Result<()>>,
    record: Record,
}

impl Troupe {
    pub(super) fn spawn(stage: &Stage, record: Record) -> Result<Self> {
        let supervision = Supervision::new()
            .with_restart(Restart::Permanent)
            .with_intensity(CRASHES, WINDOW);
        let mut group = Group::pool("actors", supervision);
        let mut mailboxes = Vec::new();
        for n in 0..ACTORS {
            let (mailbox, letters) = mpsc::channel(MAILBOX);
            mailboxes.push(mailbox);
            group = group.with_child(worker(n, stage.clone(), letters));
        }
        let (notices, to_record) = mpsc::channel(NOTICES);
        let watch = Arc::new(Recorder(notices));
        let (tree, handle) = Supervise::new(group, &record.env, watch)?;
        let cancel = CancellationToken::new();
        let mut running = JoinSet::new();
        let canceled = cancel.clone();
        running.spawn(async move {
            tree.run(canceled).await;
            Ok(())
        });
        running.spawn(write_down(
            Arc::clone(&record.journal),
            record.env.clone(),
            to_record,
        ));
        Ok(Self {
            mailboxes,
            cancel,
            _handle: handle,
            running,
            record,
        })
    }
}

fn worker(n: u32, stage: Stage, letters: mpsc::Receiver<Crash>) -> Child {
    let letters = Arc::new(Mutex::new(letters));
    Child::new(format!("actor-{n}"), move |signal| {
        work(stage.clone(), Arc::clone(&letters), signal)
    })
}

async fn work(
    stage: Stage,
    letters: Arc<Mutex<mpsc::Receiver<Crash>>>,
    signal: Signal,
) -> Result<(), Failure> {
    stage.enter();
    let mut letters = letters.lock().await;
    tokio::select! {
        Some(Crash) = letters.recv() => {
            let (kind, fix) = (ErrorKind::Internal, "none: it is what is measured");
            let failure = Failure::new(kind, Retry::Safe, "races.crashed", "crashed", fix);
            stage.crash();
            Err(failure)
        }
        () = signal.canceled() => Ok(()),
    }
}

/// Writes notices down until the tree is gone: those that wait share a commit.
async fn write_down(
    journal: Arc<dyn Journal>,
    env: Env,
    mut notices: mpsc::Receiver<Notice>,
) -> Result<()> {
    let host = Scope::new(Principal::host());
    let mut batch = Vec::new();
    while notices.recv_many(&mut batch, NOTICES).await > 0 {
        let mut writing = JoinSet::new();
        for notice in batch.drain(..) {
            let Notice::Restarting { child, failure, .. } = notice else {
                continue;
            };
            let payload = json!({ "agent": child, "failure": failure });
            let event = Event::new(&host, env.clock.now(), "agent.restarted", payload);
            let journal = Arc::clone(&journal);
            writing.spawn(async move { journal.note(event).await });
        }
        while let Some(written) = writing.join_next().await {
            written??;
        }
    }
    Ok(())
}

#[async_trait]
impl super::Troupe for Troupe {
    async fn crash(&self, actor: u32) -> Result<()> {
        let mailbox = self.mailboxes.get(usize::try_from(actor)?);
        let mailbox = mailbox.context("no such actor")?;
        mailbox.send(Crash).await.context("the actor is gone")
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.cancel.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        let n_records = self.record.journal.verify().await?.records;
        ensure!(
            n_records >= u64::from(CRASHES),
            "{n_records} restarts are recorded of {CRASHES}"
        );
        self.record.db.close().await;
        Ok(())
    }
}
