//! `kameo`: actors that `supervise` started, one for one, always.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;

use super::{ACTORS, CRASHES, Stage};

/// Longer than the race: all crashes of a round are within the limit.
const WINDOW: Duration = Duration::from_secs(600);

struct Crash;

struct Worker {
    stage: Stage,
}

impl Actor for Worker {
    type Args = Stage;
    type Error = Infallible;

    async fn on_start(stage: Stage, _: ActorRef<Self>) -> Result<Self, Infallible> {
        stage.enter();
        Ok(Self { stage })
    }
}

impl Message<Crash> for Worker {
    type Reply = Result<(), &'static str>;

    async fn handle(&mut self, Crash: Crash, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.stage.crash();
        Err("crashed")
    }
}

struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

pub(super) struct Troupe {
    supervisor: ActorRef<Supervisor>,
    workers: Vec<ActorRef<Worker>>,
}

impl Troupe {
    pub(super) async fn spawn(stage: &Stage) -> Result<Self> {
        let supervisor = Supervisor::spawn(());
        let mut workers = Vec::new();
        for _ in 0..ACTORS {
            let worker = Worker::supervise(&supervisor, stage.clone())
                .restart_policy(RestartPolicy::Permanent)
                .restart_limit(CRASHES, WINDOW)
                .spawn()
                .await;
            workers.push(worker);
        }
        Ok(Self {
            supervisor,
            workers,
        })
    }
}

#[async_trait]
impl super::Troupe for Troupe {
    async fn crash(&self, actor: u32) -> Result<()> {
        let actor = self.workers.get(usize::try_from(actor)?);
        let told = actor.context("no such actor")?.tell(Crash).await;
        told.map_err(|error| anyhow!("{error}"))
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let stopped = self.supervisor.stop_gracefully().await;
        stopped.map_err(|error| anyhow!("{error}"))?;
        self.supervisor.wait_for_shutdown().await;
        Ok(())
    }
}
