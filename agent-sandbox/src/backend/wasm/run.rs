//! Running one guest: a store of its own, thrown away at its end.

use std::sync::Arc;

use wasmtime::{
    Extern, InstancePre, Memory, ModuleExport, ResourceLimiter, Store, Trap, UpdateDeadline,
};

use agent_core::Retry;

use crate::error::{Error, Result};
use crate::exec::GuestIo;
use crate::limits::Limits;
use crate::outcome::{Exit, TrapKind};
use crate::wasi::Guest;

/// A program that is ready to start.
pub(super) struct Compiled {
    pub(super) pre: InstancePre<Host>,
    pub(super) start: ModuleExport,
    pub(super) memory: Option<ModuleExport>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

/// What a store holds for its guest.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) guest: Guest,
    pub(super) memory: Option<Memory>,
    limiter: Limiter,
}

/// Carries the end of a guest through the engine.
#[derive(Debug, thiserror::Error)]
#[error("the guest ended: {0}")]
pub(super) struct Ended(pub(super) Exit);

/// What one guest used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) fuel: Option<u64>,
    pub(super) memory_bytes: u64,
    pub(super) storage_bytes: u64,
}

#[derive(Debug)]
struct Limiter {
    memory_bytes_max: u64,
    table_elements_max: u64,
    memory_bytes: u64,
    refused: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = u64::try_from(desired).unwrap_or(u64::MAX);
        // A maximum the program declares itself is its own affair, not a limit of ours.
        let own = maximum.is_some_and(|maximum| desired > maximum);
        let granted = bytes <= self.memory_bytes_max && !own;
        if granted {
            self.memory_bytes = self.memory_bytes.max(bytes);
        } else {
            self.refused |= bytes > self.memory_bytes_max;
        }
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(u64::try_from(desired).unwrap_or(u64::MAX) <= self.table_elements_max)
    }
}

/// Runs a guest to its end on the calling thread.
pub(super) fn run(
    compiled: &Compiled,
    guest: Guest,
    limits: &Arc<Limits>,
) -> (GuestIo, Result<(Exit, Used)>) {
    let limiter = Limiter {
        memory_bytes_max: limits.memory_bytes_max,
        table_elements_max: limits.table_elements_max,
        memory_bytes: 0,
        refused: false,
    };
    let engine = compiled.pre.module().engine();
    let mut store = Store::new(
        engine,
        Host {
            guest,
            memory: None,
            limiter,
        },
    );
    store.limiter(|host| &mut host.limiter);
    let ended = start(compiled, &mut store, limits);
    let fuel = limits
        .fuel_max
        .map(|max| max.saturating_sub(store.get_fuel().unwrap_or(0)));
    let host = store.into_data();
    let used = Used {
        fuel,
        memory_bytes: host.limiter.memory_bytes,
        storage_bytes: host.guest.storage_bytes(),
    };
    let exit = match ended {
        Ok(()) => Ok(Exit::code(0)),
        Err(error) => exit_of(error, limits, host.limiter.refused),
    };
    (host.guest.into_io(), exit.map(|exit| (exit, used)))
}

fn start(compiled: &Compiled, store: &mut Store<Host>, limits: &Limits) -> wasmtime::Result<()> {
    if let Some(fuel) = limits.fuel_max {
        store.set_fuel(fuel)?;
    }
    // The engine's epoch is a clock tick: the guest stops at each to be asked whether it may go on.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|host| match host.data().guest.interrupt().check() {
        Ok(()) => Ok(UpdateDeadline::Continue(1)),
        Err(exit) => Err(wasmtime::Error::new(Ended(exit))),
    });
    store
        .data()
        .guest
        .interrupt()
        .check()
        .map_err(|exit| wasmtime::Error::new(Ended(exit)))?;
    let instance = compiled.pre.instantiate(&mut *store)?;
    let memory = compiled.memory.as_ref();
    let memory = memory.and_then(|memory| instance.get_module_export(&mut *store, memory));
    store.data_mut().memory = memory.and_then(Extern::into_memory);
    let start = instance.get_module_export(&mut *store, &compiled.start);
    let start = start.and_then(Extern::into_func).ok_or_else(|| {
        wasmtime::Error::new(Ended(Exit::trap(
            TrapKind::Other,
            "`_start` is not a function",
        )))
    })?;
    start.typed::<(), ()>(&*store)?.call(&mut *store, ())
}

/// Says what an error of the engine means: the guest's doing, or the host's failure.
fn exit_of(error: wasmtime::Error, limits: &Limits, refused: bool) -> Result<Exit> {
    if let Some(Ended(exit)) = error.downcast_ref::<Ended>() {
        return Ok(exit.clone());
    }
    let trap = error.downcast_ref::<Trap>().copied();
    let out_of_memory = Exit::out_of_memory(limits.memory_bytes_max);
    match trap {
        // An allocator that is refused memory ends its program by `unreachable`.
        None | Some(Trap::UnreachableCodeReached) if refused => Ok(out_of_memory),
        Some(Trap::OutOfFuel) => Ok(Exit::out_of_fuel(limits.fuel_max.unwrap_or(0))),
        Some(trap) => Ok(Exit::trap(trap_kind(trap), trap.to_string())),
        None => {
            let source = error.into_boxed_dyn_error();
            Err(Error::backend(
                "wasm",
                "start the guest",
                Retry::Safe,
                source,
            ))
        }
    }
}

const fn trap_kind(trap: Trap) -> TrapKind {
    match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::StackOverflow => TrapKind::StackOverflow,
        Trap::MemoryOutOfBounds | Trap::TableOutOfBounds | Trap::HeapMisaligned => {
            TrapKind::OutOfBounds
        }
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            TrapKind::Arithmetic
        }
        Trap::IndirectCallToNull | Trap::BadSignature | Trap::NullReference => TrapKind::BadCall,
        _ => TrapKind::Other,
    }
}
