//! One sandbox of wasm guests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_core::{CancellationToken, Entropy, Scope, SeededEntropy, Unit, Usage};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::backend::wasm::files::WasmFiles;
use crate::backend::wasm::run::{self, Compiled, Used};
use crate::backend::wasm::runtime::Inner;
use crate::error::{Error, Result};
use crate::exec::{Exec, Execution, GuestIo, Stdin};
use crate::files::Files;
use crate::mounts::Mounts;
use crate::outcome::{Outcome, Output};
use crate::sandbox::{Metrics, Sandbox, SandboxId, State};
use crate::spec::{Program, Spec};
use crate::wasi::{Guest, GuestTime, Interrupt, Table};

/// One sandbox of wasm guests.
#[derive(Debug)]
pub struct WasmSandbox {
    id: SandboxId,
    runtime: Arc<Inner>,
    spec: Arc<Spec>,
    limits: Arc<crate::limits::Limits>,
    /// Gone once the sandbox is closed.
    mounts: Mutex<Option<Arc<Mounts>>>,
    state: Mutex<State>,
    cancellation: CancellationToken,
    running: TaskTracker,
    ended: Arc<Ended>,
}

/// Arguments or environment.
type Strings = Arc<[String]>;

/// What ended executions add up to.
#[derive(Debug, Default)]
struct Ended {
    execs: AtomicU64,
    usage: Mutex<Usage>,
}

impl Drop for WasmSandbox {
    fn drop(&mut self) {
        self.cancellation.cancel();
        self.runtime.forget(self.id);
    }
}

/// A guest that is ready to run, with everything that ends with it.
struct Ready {
    compiled: Arc<Compiled>,
    guest: Guest,
    limits: Arc<crate::limits::Limits>,
    runtime: Arc<Inner>,
    ended: Arc<Ended>,
    _running: TaskTrackerToken,
}

impl WasmSandbox {
    pub(super) fn new(
        id: SandboxId,
        runtime: Arc<Inner>,
        spec: Spec,
        mounts: Mounts,
        cancellation: CancellationToken,
    ) -> Self {
        let limits = Arc::new(spec.limits.clone());
        Self {
            id,
            runtime,
            spec: Arc::new(spec),
            limits,
            mounts: Mutex::new(Some(Arc::new(mounts))),
            state: Mutex::new(State::Running),
            cancellation,
            running: TaskTracker::new(),
            ended: Arc::default(),
        }
    }

    fn mounts(&self) -> Result<Arc<Mounts>> {
        self.mounts
            .lock()
            .clone()
            .ok_or_else(|| Error::closed("sandbox"))
    }

    fn program<'a>(&'a self, exec: &'a Exec) -> &'a Program {
        exec.program.as_ref().unwrap_or(&self.spec.program)
    }

    /// The guest's arguments and environment as it sees them.
    fn strings(&self, exec: &Exec) -> Result<(Strings, Strings)> {
        let name = self.program(exec).name().to_owned();
        let after = exec.args.as_ref().unwrap_or(&self.spec.args);
        let args: Arc<[String]> = std::iter::once(name).chain(after.iter().cloned()).collect();
        let mut variables = self.spec.env.clone();
        variables.extend(exec.env.clone());
        let env: Arc<[String]> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        check_strings(&args, &variables, &env, self.limits.args_bytes_max)?;
        Ok((args, env))
    }

    /// Makes the guest. Its time starts to count here.
    fn guest(
        &self,
        scope: &Scope,
        exec: &Exec,
        io: GuestIo,
        token: CancellationToken,
    ) -> Result<Guest> {
        let (args, env) = self.strings(exec)?;
        let host = &self.runtime.env;
        let entropy: Arc<dyn Entropy> = match self.spec.seed {
            Some(seed) => Arc::new(SeededEntropy::new(seed)),
            None => Arc::clone(&host.entropy),
        };
        let time = GuestTime::new(self.spec.clock, Arc::clone(&host.clock));
        let wall_max = self
            .limits
            .wall_max
            .min(exec.wall_max.unwrap_or(Duration::MAX));
        let wall_end = host.clock.monotonic().saturating_add(wall_max);
        let tokens = [token, self.cancellation.clone()];
        let interrupt = Interrupt::new(Arc::clone(&host.clock), tokens, wall_end, scope.deadline);
        let table = Table::new(self.mounts()?.list(), self.limits.open_files_max);
        let limits = (Arc::clone(&self.limits), interrupt);
        Ok(Guest::new(args, env, io, table, (time, entropy), limits))
    }

    fn check_open(&self) -> Result<()> {
        if *self.state.lock() == State::Running {
            Ok(())
        } else {
            Err(Error::closed("sandbox"))
        }
    }

    fn ready(&self, compiled: Arc<Compiled>, guest: Guest) -> Ready {
        Ready {
            compiled,
            guest,
            limits: Arc::clone(&self.limits),
            runtime: Arc::clone(&self.runtime),
            ended: Arc::clone(&self.ended),
            _running: self.running.token(),
        }
    }

    /// Runs a program to its end on the calling thread, without worker and slot: for hosts that
    /// have threads of their own, and for measuring. The thread needs 1 MiB of stack.
    ///
    /// # Errors
    /// As [`Sandbox::exec`]; `Invalid` for [`Stdin::Pipe`], since nobody could write to it.
    pub fn output_blocking(&self, scope: &Scope, exec: &Exec) -> Result<Output> {
        self.check_open()?;
        if matches!(exec.stdin, Stdin::Pipe) {
            return Err(Error::invalid(
                "stdin",
                "a pipe needs a writer beside the guest",
            ));
        }
        let fuel = self.limits.fuel_max.is_some();
        let compiled = self.runtime.compile_here(self.program(exec), fuel)?;
        let token = scope.cancellation.child_token();
        let (mut execution, io) = Execution::channel(&exec.stdin, &self.limits, token.clone());
        let guest = self.guest(scope, exec, io, token)?;
        let ready = self.ready(compiled, guest);
        let _awake = self.runtime.workers.keep_ticking()?;
        let (io, outcome) = ready.run();
        let outcome = io.complete(outcome?);
        Ok(Output::new(
            outcome,
            execution.stdout().take(),
            execution.stderr().take(),
        ))
    }
}

impl Ready {
    fn run(self) -> (GuestIo, Result<Outcome>) {
        let Self {
            compiled,
            guest,
            limits,
            runtime,
            ended,
            _running,
        } = self;
        let clock = Arc::clone(&runtime.env.clock);
        let (wall, cpu) = (clock.monotonic(), thread_cpu());
        let (io, result) = run::run(&compiled, guest, &limits);
        let wall = clock.monotonic().saturating_sub(wall);
        let cpu = thread_cpu().saturating_sub(cpu);
        ended.execs.fetch_add(1, Ordering::Relaxed);
        let outcome = result.map(|(exit, used)| {
            let usage = usage(used, wall, cpu);
            ended.usage.lock().merge(&usage);
            Outcome::new(exit, usage)
        });
        (io, outcome)
    }
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

fn usage(used: Used, wall: Duration, cpu: Duration) -> Usage {
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mib = used.memory_bytes.div_ceil(1 << 20);
    let mut usage = Usage::new()
        .with(Unit::Calls, 1)
        .with(Unit::WallUs, us(wall))
        .with(Unit::CpuUs, us(cpu))
        .with(
            Unit::MemoryMibMs,
            mib.saturating_mul(us(wall).div_ceil(1_000)),
        )
        .with(Unit::StorageBytes, used.storage_bytes);
    if let Some(fuel) = used.fuel {
        usage.add(Unit::Fuel, fuel);
    }
    usage
}

fn check_strings(
    args: &[String],
    variables: &BTreeMap<String, String>,
    env: &[String],
    bytes_max: usize,
) -> Result<()> {
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::invalid("args", "an argument holds a NUL"));
    }
    if env.iter().any(|variable| variable.contains('\0'))
        || variables
            .keys()
            .any(|name| name.is_empty() || name.contains('='))
    {
        return Err(Error::invalid(
            "env",
            "a name is empty or holds `=`, or a value holds a NUL",
        ));
    }
    let bytes: usize = args
        .iter()
        .chain(env)
        .map(|text| text.len().saturating_add(1))
        .sum();
    if bytes > bytes_max {
        return Err(Error::invalid(
            "args",
            format!("they have more than {bytes_max} bytes"),
        ));
    }
    Ok(())
}

#[async_trait]
impl Sandbox for WasmSandbox {
    fn id(&self) -> SandboxId {
        self.id
    }

    fn state(&self) -> State {
        *self.state.lock()
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.spec.labels
    }

    async fn exec(&self, scope: &Scope, exec: Exec) -> Result<Execution> {
        self.check_open()?;
        let fuel = self.limits.fuel_max.is_some();
        let compiled = self.runtime.compile(self.program(&exec), fuel).await?;
        let slot = self.runtime.slot(scope, &self.cancellation).await?;
        self.check_open()?;
        let token = scope.cancellation.child_token();
        let (execution, io) = Execution::channel(&exec.stdin, &self.limits, token.clone());
        let guest = self.guest(scope, &exec, io, token)?;
        let ready = self.ready(compiled, guest);
        self.runtime.workers.submit(move || {
            let (io, outcome) = ready.run();
            // The slot is free before the caller hears of the end, so that it can start the next.
            drop(slot);
            io.finish(outcome);
        })?;
        Ok(execution)
    }

    fn files(&self) -> Arc<dyn Files> {
        let mounts = self.mounts.lock().clone();
        Arc::new(WasmFiles::new(mounts.as_ref(), Arc::clone(&self.runtime)))
    }

    fn metrics(&self) -> Metrics {
        let mounts = self.mounts.lock().clone();
        Metrics {
            execs_running: u64::try_from(self.running.len()).unwrap_or(u64::MAX),
            execs_ended: self.ended.execs.load(Ordering::Relaxed),
            usage: self.ended.usage.lock().clone(),
            storage_bytes: mounts.as_ref().map_or(0, |mounts| mounts.quota().bytes()),
            files: mounts.as_ref().map_or(0, |mounts| mounts.quota().files()),
        }
    }

    async fn close(&self) -> Result<()> {
        {
            let mut state = self.state.lock();
            if *state == State::Terminated {
                return Ok(());
            }
            *state = State::Stopping;
        }
        self.cancellation.cancel();
        self.running.close();
        self.running.wait().await;
        *self.state.lock() = State::Terminated;
        drop(self.mounts.lock().take());
        self.runtime.forget(self.id);
        Ok(())
    }
}
