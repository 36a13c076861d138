//! `ractor`: linked actors, and a supervisor that starts again what failed, one for one.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{ACTORS, Stage};

/// The references that hold, since a restarted actor is another one.
type Refs = Arc<Mutex<HashMap<u32, ActorRef<Crash>>>>;

struct Crash;

struct Worker {
    stage: Stage,
}

impl Actor for Worker {
    type Msg = Crash;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Crash>, (): ()) -> Result<(), ActorProcessingErr> {
        self.stage.enter();
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Crash>,
        Crash: Crash,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.stage.crash();
        Err("crashed".into())
    }
}

struct Supervisor {
    stage: Stage,
    refs: Refs,
}

impl Supervisor {
    async fn start(
        &self,
        n: u32,
        myself: &ActorRef<()>,
        children: &mut HashMap<ActorId, u32>,
    ) -> Result<(), ActorProcessingErr> {
        let stage = self.stage.clone();
        let worker = Worker { stage };
        let (child, _running) = Actor::spawn_linked(None, worker, (), myself.get_cell()).await?;
        children.insert(child.get_id(), n);
        self.refs.lock().insert(n, child);
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = ();
    type State = HashMap<ActorId, u32>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut children = HashMap::new();
        for n in 0..ACTORS {
            self.start(n, &myself, &mut children).await?;
        }
        Ok(children)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        children: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(dead, _) = event
            && let Some(n) = children.remove(&dead.get_id())
        {
            self.start(n, &myself, children).await?;
        }
        Ok(())
    }
}

pub(super) struct Troupe {
    supervisor: ActorRef<()>,
    refs: Refs,
}

impl Troupe {
    pub(super) async fn spawn(stage: &Stage) -> Result<Self> {
        let refs = Refs::default();
        let supervisor = Supervisor {
            stage: stage.clone(),
            refs: Arc::clone(&refs),
        };
        let (supervisor, _running) = Actor::spawn(None, supervisor, ()).await?;
        Ok(Self { supervisor, refs })
    }
}

#[async_trait]
impl super::Troupe for Troupe {
    async fn crash(&self, actor: u32) -> Result<()> {
        let actor = self.refs.lock().get(&actor).cloned();
        Ok(actor.context("no such actor")?.cast(Crash)?)
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(self.supervisor.stop_and_wait(None, None).await?)
    }
}
