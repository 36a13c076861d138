//! The runtime of the wasm backend.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use agent_core::{CancellationToken, Env, Scope};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::wasm::config::Config;
use crate::backend::wasm::disk::Disk;
use crate::backend::wasm::engine::{Kit, TABLE_ELEMENTS_MAX};
use crate::backend::wasm::programs::Programs;
use crate::backend::wasm::run::Compiled;
use crate::backend::wasm::sandbox::WasmSandbox;
use crate::backend::wasm::workers::Workers;
use crate::error::{Error, Result};
use crate::mounts::Mounts;
use crate::runtime::{Capabilities, Capability, Probe, Runtime};
use crate::sandbox::{Sandbox, SandboxId};
use crate::spec::{Program, Spec};

const NAME: &str = "wasm";

/// Runs WASI preview 1 commands on wasmtime. Cheap to clone; dropping the last handle, with the
/// sandboxes', ends its threads.
#[derive(Clone, Debug)]
pub struct WasmRuntime(Arc<Inner>);

/// What the runtime and its sandboxes share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) env: Env,
    pub(super) workers: Workers,
    config: Config,
    programs: Programs,
    plain: Kit,
    /// Metering is part of the compiled code, so it needs an engine of its own.
    fuelled: OnceLock<Kit>,
    fuelled_once: Mutex<()>,
    slots: Arc<Semaphore>,
    n_waiting: AtomicUsize,
    open: Mutex<BTreeMap<SandboxId, Weak<WasmSandbox>>>,
    cancellation: CancellationToken,
}

impl WasmRuntime {
    /// Opens the runtime: creates the engine and opens the cache. Threads start with the first
    /// guest.
    ///
    /// # Errors
    /// `Invalid` naming the field of the configuration; `Internal` if the engine or the cache's
    /// directory cannot be used.
    pub fn open(mut config: Config) -> Result<Self> {
        if config.concurrency_max == 0 {
            return Err(Error::invalid("concurrency_max", "no guest could run"));
        }
        if config.memory_bytes_max > u64::from(u32::MAX).saturating_add(1) {
            return Err(Error::invalid(
                "memory_bytes_max",
                "a wasm memory has at most 4 GiB",
            ));
        }
        let env = config.env.clone();
        let cache = config.cache.take();
        let disk = cache
            .map(|cache| Disk::open(cache, env.entropy.as_ref()))
            .transpose()?;
        let plain = Kit::new(&config, false)?;
        // Two more than guests, so that compiling and files go on while every slot is taken.
        let workers = Workers::new(config.concurrency_max.saturating_add(2));
        workers.watch(&plain.engine);
        let programs = Programs::new(
            config.programs_max,
            config.program_bytes_max,
            disk,
            env.clone(),
        );
        Ok(Self(Arc::new(Inner {
            env,
            workers,
            programs,
            plain,
            fuelled: OnceLock::new(),
            fuelled_once: Mutex::new(()),
            slots: Arc::new(Semaphore::new(config.concurrency_max)),
            n_waiting: AtomicUsize::new(0),
            open: Mutex::default(),
            cancellation: CancellationToken::new(),
            config,
        })))
    }

    /// Starts a sandbox on the calling thread, which compiles the program if it is not kept. For
    /// [`WasmSandbox::output_blocking`]; others call [`Runtime::launch`].
    ///
    /// # Errors
    /// As [`Runtime::launch`].
    pub fn launch_blocking(&self, spec: Spec) -> Result<Arc<WasmSandbox>> {
        self.0.check_spec(&spec)?;
        self.0
            .compile_here(&spec.program, spec.limits.fuel_max.is_some())?;
        self.0.sandbox(spec)
    }
}

impl Inner {
    fn check_open(&self) -> Result<()> {
        if self.cancellation.is_cancelled() {
            Err(Error::closed("runtime"))
        } else {
            Ok(())
        }
    }

    fn check_spec(&self, spec: &Spec) -> Result<()> {
        self.check_open()?;
        let limits = &spec.limits;
        if limits.memory_bytes_max > self.config.memory_bytes_max {
            let reason = format!("the runtime allows {} bytes", self.config.memory_bytes_max);
            return Err(Error::invalid("memory_bytes_max", reason));
        }
        if usize::try_from(limits.table_elements_max).map_or(true, |n| n > TABLE_ELEMENTS_MAX) {
            let reason = format!("the runtime allows {TABLE_ELEMENTS_MAX}");
            return Err(Error::invalid("table_elements_max", reason));
        }
        if limits.open_files_max < spec.mounts.len().saturating_add(3) {
            return Err(Error::invalid(
                "open_files_max",
                "the mounts alone are more",
            ));
        }
        Ok(())
    }

    fn sandbox(self: &Arc<Self>, spec: Spec) -> Result<Arc<WasmSandbox>> {
        let now = self
            .env
            .clock
            .now()
            .as_unix_ms_u64()
            .saturating_mul(1_000_000);
        let mounts = Mounts::open(&spec, now)?;
        let id = SandboxId::generate(&self.env);
        let token = self.cancellation.child_token();
        let mut open = self.open.lock();
        if open.len() >= self.config.sandboxes_max {
            return Err(Error::busy("open sandboxes", self.config.sandboxes_max));
        }
        let sandbox = Arc::new(WasmSandbox::new(id, Arc::clone(self), spec, mounts, token));
        open.insert(id, Arc::downgrade(&sandbox));
        Ok(sandbox)
    }

    /// Takes a sandbox that is closed or gone off the list.
    pub(super) fn forget(&self, id: SandboxId) {
        self.open.lock().remove(&id);
    }

    fn kit(&self, fuel: bool) -> Result<&Kit> {
        if !fuel {
            return Ok(&self.plain);
        }
        if let Some(kit) = self.fuelled.get() {
            return Ok(kit);
        }
        let _one = self.fuelled_once.lock();
        if let Some(kit) = self.fuelled.get() {
            return Ok(kit);
        }
        let kit = Kit::new(&self.config, true)?;
        self.workers.watch(&kit.engine);
        Ok(self.fuelled.get_or_init(|| kit))
    }

    /// Compiles on the calling thread.
    pub(super) fn compile_here(&self, program: &Program, fuel: bool) -> Result<Arc<Compiled>> {
        self.check_open()?;
        if let Some(compiled) = self.programs.ready(program, fuel) {
            return Ok(compiled);
        }
        self.programs.compile(self.kit(fuel)?, program, fuel)
    }

    /// Compiles on a worker, unless the program is kept.
    pub(super) async fn compile(
        self: &Arc<Self>,
        program: &Program,
        fuel: bool,
    ) -> Result<Arc<Compiled>> {
        self.check_open()?;
        if let Some(compiled) = self.programs.ready(program, fuel) {
            return Ok(compiled);
        }
        let (inner, program) = (Arc::clone(self), program.clone());
        self.workers
            .run(move || inner.compile_here(&program, fuel))
            .await?
    }

    /// Waits for a slot to run a guest in.
    pub(super) async fn slot(
        &self,
        scope: &Scope,
        sandbox: &CancellationToken,
    ) -> Result<OwnedSemaphorePermit> {
        let clock = self.env.clock.as_ref();
        scope.check(clock).map_err(|error| ended(&error))?;
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::new(&self.n_waiting, self.config.waiting_max)?;
        let permit = Arc::clone(&self.slots).acquire_owned();
        let permit = async {
            tokio::select! {
                biased;
                () = sandbox.cancelled() => Err(Error::closed("sandbox")),
                permit = permit => permit.map_err(|_closed| Error::closed("runtime")),
            }
        };
        scope
            .guard(clock, permit)
            .await
            .map_err(|error| ended(&error))?
    }
}

/// What the end of a scope means before the guest started.
fn ended(error: &agent_core::Error) -> Error {
    match error {
        agent_core::Error::TimedOut => Error::TimedOut,
        _ => Error::Canceled,
    }
}

/// One that waits for a slot.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(n_waiting: &'a AtomicUsize, max: usize) -> Result<Self> {
        let entered = n_waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
            (n < max).then(|| n.saturating_add(1))
        });
        match entered {
            Ok(_) => Ok(Self(n_waiting)),
            Err(_) => Err(Error::busy("executions waiting for a slot", max)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new([
            Capability::WasiCommands,
            Capability::Fuel,
            Capability::Determinism,
            Capability::HostDirectories,
            Capability::PipedStdin,
        ])
    }

    async fn probe(&self) -> Result<Probe> {
        self.0.check_open()?;
        let remarks = self.0.plain.unpooled.iter().map(|why| {
            format!("guests start slower because {why}; allow more address space or fewer guests")
        });
        Ok(Probe::new(
            NAME,
            "wasmtime 48, cranelift".to_owned(),
            remarks.collect(),
        ))
    }

    async fn prepare(&self, program: &Program) -> Result<()> {
        self.0.compile(program, false).await.map(drop)
    }

    async fn launch(&self, scope: &Scope, spec: Spec) -> Result<Arc<dyn Sandbox>> {
        self.0.check_spec(&spec)?;
        let clock = self.0.env.clock.as_ref();
        let compiled = self
            .0
            .compile(&spec.program, spec.limits.fuel_max.is_some());
        scope
            .guard(clock, compiled)
            .await
            .map_err(|error| ended(&error))??;
        Ok(self.0.sandbox(spec)?)
    }

    fn list(&self) -> Vec<Arc<dyn Sandbox>> {
        let open = self.0.open.lock();
        open.values()
            .filter_map(|sandbox| Some(sandbox.upgrade()? as Arc<dyn Sandbox>))
            .collect()
    }

    async fn close(&self) -> Result<()> {
        self.0.cancellation.cancel();
        for sandbox in self.list() {
            sandbox.close().await?;
        }
        self.0.workers.shut();
        self.0.workers.ended().await;
        Ok(())
    }
}
