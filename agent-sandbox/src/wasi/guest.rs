//! Everything one running guest has.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{CancellationToken, Clock, Entropy, Timestamp};

use crate::exec::GuestIo;
use crate::limits::Limits;
use crate::outcome::Exit;
use crate::wasi::{Call, GuestTime, Table};

/// How late a guest that waits in a call notices that it must end.
pub(super) const WAIT_SLICE: Duration = Duration::from_millis(5);

/// What ends a guest from outside.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    clock: Arc<dyn Clock>,
    /// The execution's and the sandbox's.
    cancellations: [CancellationToken; 2],
    /// On the clock's monotonic time.
    wall_end: Duration,
    deadline: Option<Timestamp>,
}

impl Interrupt {
    pub(crate) const fn new(
        clock: Arc<dyn Clock>,
        cancellations: [CancellationToken; 2],
        wall_end: Duration,
        deadline: Option<Timestamp>,
    ) -> Self {
        Self {
            clock,
            cancellations,
            wall_end,
            deadline,
        }
    }

    /// Says whether the guest must end, and how.
    pub(crate) fn check(&self) -> Result<(), Exit> {
        if self
            .cancellations
            .iter()
            .any(CancellationToken::is_cancelled)
        {
            return Err(Exit::Canceled);
        }
        let past_deadline = self
            .deadline
            .is_some_and(|deadline| deadline <= self.clock.now());
        if past_deadline || self.clock.monotonic() >= self.wall_end {
            return Err(Exit::TimedOut);
        }
        Ok(())
    }
}

/// Everything one running guest has.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(super) args: Arc<[String]>,
    /// `NAME=value`, ordered by name.
    pub(super) env: Arc<[String]>,
    pub(super) io: GuestIo,
    pub(super) table: Table,
    pub(super) time: GuestTime,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) limits: Arc<Limits>,
    pub(super) interrupt: Interrupt,
    pub(super) storage_bytes: u64,
}

impl Guest {
    pub(crate) fn new(
        args: Arc<[String]>,
        env: Arc<[String]>,
        io: GuestIo,
        table: Table,
        (time, entropy): (GuestTime, Arc<dyn Entropy>),
        (limits, interrupt): (Arc<Limits>, Interrupt),
    ) -> Self {
        Self {
            args,
            env,
            io,
            table,
            time,
            entropy,
            limits,
            interrupt,
            storage_bytes: 0,
        }
    }

    /// Bytes written to files.
    pub(crate) const fn storage_bytes(&self) -> u64 {
        self.storage_bytes
    }

    pub(crate) fn into_io(self) -> GuestIo {
        self.io
    }

    pub(crate) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Waits a moment, unless the guest must end.
    pub(super) fn pause(&self, at_most: Duration) -> Call {
        self.interrupt.check()?;
        std::thread::park_timeout(at_most.min(WAIT_SLICE));
        Ok(())
    }
}
