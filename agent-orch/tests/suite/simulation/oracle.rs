//! What the simulation knows without asking the store, and the laws it checks after every event.

use std::collections::BTreeMap;

use agent_core::{AgentId, TaskId, Timestamp};
use agent_orch::machine::step_key;
use agent_orch::{Intended, Status};

use crate::simulation::money::COST;
use crate::simulation::store::{Answer, Command, Store, Tables};

/// The independent memory of one simulation.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    authors: BTreeMap<TaskId, AgentId>,
}

fn holds(law: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if law { Ok(()) } else { Err(what()) }
}

/// Looks at a command the store took, with the tables as they were before.
pub(crate) fn took(
    before: &BTreeMap<TaskId, (u64, Timestamp, Status)>,
    command: &Command,
    answer: &Answer,
    now: Timestamp,
) -> Result<(), String> {
    if matches!(answer, Answer::Lost | Answer::Refused(_)) {
        return Ok(());
    }
    let Some(lease) = command.lease() else {
        return Ok(());
    };
    let (fence, until, status) = before[&lease.task];
    let held = lease.fence.0 == fence && until > now && status == Status::Leased;
    holds(held, || {
        format!("a zombie's write was accepted: {command:?}")
    })
}

/// Looks at an answer that reached a worker: a recorded step returns what it returned.
pub(crate) fn told(command: &Command, answer: &Answer) -> Result<(), String> {
    if let (Command::Intend { lease, intent }, Answer::Intended(said)) = (command, answer)
        && let Intended::Recorded(value) = said.as_ref()
    {
        let digest = intent.effect.digest().unwrap();
        let returned = step_key(lease, &intent.step, &digest).unwrap();
        let same = value.as_str() == Some(returned.as_str());
        holds(same, || format!("{returned:?} is recorded as {value}"))?;
    }
    Ok(())
}

impl Oracle {
    /// Looks at the end of an attempt, as the store has it.
    pub(crate) fn finished(
        &mut self,
        task: TaskId,
        by: AgentId,
        before: Status,
        tables: &Tables,
    ) -> Result<(), String> {
        let row = &tables.rows[&task].task;
        if let Some(author) = row.author {
            self.authors.insert(task, author);
        }
        if row.status == Status::Completed && before != Status::Completed {
            let author = self.authors.get(&task);
            holds(author.is_some_and(|author| *author != by), || {
                format!("{task} was verified by its author {by}")
            })?;
        }
        Ok(())
    }
}

/// Holds at every moment.
pub(crate) fn always(store: &Store) -> Result<(), String> {
    store.tables.money.check()
}

/// Holds once faults have stopped and everything came to rest.
pub(crate) fn in_the_end(store: &Store) -> Result<(), String> {
    for row in store.tables.rows.values() {
        let (key, status) = (&row.task.key, row.task.status);
        holds(status.is_terminal(), || {
            format!("task {key} is {status} for ever")
        })?;
    }
    let money = &store.tables.money;
    holds(money.is_free(), || {
        format!("money is held for ever: {money:?}")
    })?;
    let is_paid = |step: &&crate::simulation::store::Step| {
        step.known.state == agent_orch::machine::StepState::Done && step.known.intent.is_some()
    };
    let paid = store
        .tables
        .steps
        .iter()
        .filter(|((.., n), step)| *n == 0 && is_paid(step));
    let (spent, owed) = (money.spent(), COST * paid.count() as u64);
    holds(spent == owed, || {
        format!("{spent} was spent on steps that cost {owed}")
    })
}
