//! The simulated store: tables, a log of commands with a watermark of what is on disk, and crashes
//! that lose the rest. The rules are those of the crate's pure core.

mod tables;

use agent_core::{AgentId, ErrorKind, Failure, Retry, Timestamp};
use agent_orch::{Claim, Intended, Intent, Lease, NewRequest, Pass, RequestId, Task, Transition};
use serde_json::Value;

use crate::simulation::bug::Bug;
use crate::simulation::chance::Chance;
use crate::simulation::money::Money;
use tables::Row;

pub(crate) use tables::{Step, Tables};

/// A call of the store.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Claim {
        agent: AgentId,
        pool: &'static str,
    },
    Heartbeat {
        lease: Lease,
    },
    Intend {
        lease: Lease,
        intent: Box<Intent>,
    },
    Settle {
        lease: Lease,
        pass: Box<Pass>,
        result: Result<Value, Failure>,
    },
    Ask {
        request: Box<NewRequest>,
    },
    Finish {
        lease: Lease,
        transition: Box<Transition>,
    },
    Answer {
        id: RequestId,
        choice: String,
    },
    Sweep,
}

impl Command {
    /// The lease a call acts under, if it needs one that holds.
    pub(crate) const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Heartbeat { lease }
            | Self::Intend { lease, .. }
            | Self::Settle { lease, .. }
            | Self::Finish { lease, .. } => Some(lease),
            _ => None,
        }
    }
}

/// What the store says to a call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Claimed(Option<Box<Claim>>),
    Until(Timestamp),
    Intended(Box<Intended>),
    Asked(Option<String>),
    Done,
    /// The lease is over.
    Lost,
    Refused(Box<Failure>),
}

/// A log record: the command, when it was taken, and whether all of it is on disk.
#[derive(Clone, Debug)]
struct Frame {
    command: Command,
    at: Timestamp,
    is_torn: bool,
}

/// The store: what is on disk, what is only in memory, and how much was promised.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) tables: Tables,
    synced: Tables,
    unsynced: Vec<Frame>,
    /// How many commands the answers that left the store speak of.
    acked: u64,
    bug: Option<Bug>,
}

impl Store {
    pub(crate) fn new(tasks: Vec<Task>, money: Money, bug: Option<Bug>) -> Self {
        let row = |task: Task| Row {
            task,
            fence: 0,
            until: Timestamp::EPOCH,
            not_before: None,
            avoid: None,
            wakes: 0,
        };
        let rows = tasks.into_iter().map(|task| (task.id, row(task)));
        let tables = Tables {
            rows: rows.collect(),
            money,
            ..Tables::default()
        };
        Self {
            synced: tables.clone(),
            tables,
            unsynced: Vec::new(),
            acked: 0,
            bug,
        }
    }

    /// Takes a command into the open batch. The answer may leave once the batch is on disk.
    pub(crate) fn take(&mut self, command: Command, at: Timestamp) -> Answer {
        let frame = Frame {
            command: command.clone(),
            at,
            is_torn: false,
        };
        self.unsynced.push(frame);
        self.tables.apply(command, at, self.bug)
    }

    /// Brings the batch to disk.
    pub(crate) fn sync(&mut self) {
        self.synced = self.tables.clone();
        self.unsynced.clear();
    }

    /// Notes that an answer leaves which speaks of everything applied so far.
    pub(crate) const fn ack(&mut self) {
        self.acked = self.tables.n_applied;
    }

    /// Loses what is not on disk. Of the open batch some records may have got there, the last of
    /// them perhaps in half.
    pub(crate) fn crash(&mut self, chance: &mut Chance) -> Result<(), String> {
        let n_written = usize::try_from(chance.below(1 + self.unsynced.len() as u64)).unwrap();
        let mut written: Vec<Frame> = self.unsynced.drain(..).take(n_written).collect();
        if let Some(last) = written.last_mut() {
            last.is_torn = chance.percent(50);
        }
        self.tables = self.synced.clone();
        for frame in written {
            if frame.is_torn && self.bug != Some(Bug::TrustTorn) {
                break;
            }
            if frame.is_torn {
                // Half a record: the task is there and the rest of it is not.
                if let Command::Settle { lease, pass, .. } = frame.command {
                    let half = Err(torn());
                    let settle = Command::Settle {
                        lease,
                        pass,
                        result: half,
                    };
                    self.tables.apply(settle, frame.at, self.bug);
                }
                continue;
            }
            self.tables.apply(frame.command, frame.at, self.bug);
        }
        self.synced = self.tables.clone();
        if self.tables.n_applied < self.acked {
            let (left, acked) = (self.tables.n_applied, self.acked);
            return Err(format!(
                "{acked} commands were acknowledged and {left} are left"
            ));
        }
        Ok(())
    }
}

fn torn() -> Failure {
    Failure::new(
        ErrorKind::Corrupt,
        Retry::Safe,
        "sim.torn",
        "half a record",
        "drop it",
    )
}
