//! The sandbox: from a compiled module to the guest's exit, against bare wasmtime.

use std::sync::Arc;

use agent_core::{Principal, Scope};
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::{Exec, Exit, Program, Runtime, Sandbox, SandboxExt, Spec};
use anyhow::{Error, Result, ensure};
use wasmtime::{
    Caller, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Store,
};

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

/// Prints one line and exits.
const GUEST: &[u8] = include_bytes!("../../../../agent-sandbox/guests/probe/hello.wasm");
const LINE: &str = "hello from a guest\n";

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let runtime = WasmRuntime::open(Config::new(bench.env.clone()))?;
    let scope = Scope::new(Principal::host());
    let program = Program::wasm("hello", GUEST);
    runtime.prepare(&program).await?;
    let warm = runtime.launch(&scope, Spec::new(program.clone())).await?;
    let bare = Bare::new()?;
    let (mut cold, mut again, mut baseline) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        baseline.push(bare_round(bench, &bare)?);
        cold.push(cold_round(bench, &runtime, &scope, &program).await?);
        again.push(again_round(bench, &warm, &scope).await?);
    }
    let probe = runtime.probe().await?;
    let environment = match probe.remarks.first() {
        Some(remark) => format!("{}; {remark}", probe.isolation),
        None => probe.isolation,
    };
    runtime.close().await?;
    let (unit, whole) = (
        Unit::Micros,
        format!("{environment}; new sandbox, run, close"),
    );
    Ok(vec![
        Measure::of("sandbox/cold_start@1", unit, &cold, &baseline, whole),
        Measure::of(
            "sandbox/exec@1",
            unit,
            &again,
            &baseline,
            "the sandbox is open",
        ),
    ])
}

fn bare_round(bench: &Bench, bare: &Bare) -> Result<f64> {
    let (begin, mut calls) = (bench.now(), Samples::default());
    while bench.since(begin) < ROUND {
        let start = bench.now();
        let written = bare.run()?;
        calls.push(Unit::Micros.of(bench.since(start)));
        ensure!(
            written == LINE.as_bytes(),
            "the guest on bare wasmtime wrote something else"
        );
    }
    Ok(calls.median())
}

async fn cold_round(
    bench: &Bench,
    runtime: &WasmRuntime,
    scope: &Scope,
    program: &Program,
) -> Result<f64> {
    let (begin, mut calls) = (bench.now(), Samples::default());
    while bench.since(begin) < ROUND {
        let start = bench.now();
        let sandbox = runtime.launch(scope, Spec::new(program.clone())).await?;
        let output = sandbox.output(scope, Exec::new()).await?;
        sandbox.close().await?;
        calls.push(Unit::Micros.of(bench.since(start)));
        ensure!(output.outcome.exit == Exit::code(0), "the guest failed");
    }
    Ok(calls.median())
}

async fn again_round(bench: &Bench, sandbox: &Arc<dyn Sandbox>, scope: &Scope) -> Result<f64> {
    let (begin, mut calls) = (bench.now(), Samples::default());
    while bench.since(begin) < ROUND {
        let start = bench.now();
        let output = sandbox.output(scope, Exec::new()).await?;
        calls.push(Unit::Micros.of(bench.since(start)));
        ensure!(
            output.stdout_lossy() == LINE,
            "the guest wrote something else"
        );
    }
    Ok(calls.median())
}

/// Wasmtime with the four functions the guest imports and nothing around them.
struct Bare {
    engine: Engine,
    ready: InstancePre<Vec<u8>>,
}

impl Bare {
    fn new() -> Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(4)
            .total_memories(4)
            .total_tables(4);
        let mut config = wasmtime::Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(plain)?;
        let module = Module::new(&engine, GUEST).map_err(plain)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(plain)?;
        let ready = linker.instantiate_pre(&module).map_err(plain)?;
        Ok(Self { engine, ready })
    }

    /// Runs the guest in a fresh instance and returns what it wrote.
    fn run(&self) -> Result<Vec<u8>> {
        let mut store = Store::new(&self.engine, Vec::new());
        let instance = self.ready.instantiate(&mut store).map_err(plain)?;
        let start = instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .map_err(plain)?;
        start.call(&mut store, ()).map_err(plain)?;
        Ok(store.into_data())
    }
}

fn plain(error: wasmtime::Error) -> Error {
    Error::from_boxed(error.into_boxed_dyn_error())
}

/// Gives the guest an empty environment and one place to write to.
fn link(linker: &mut Linker<Vec<u8>>) -> wasmtime::Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(WASI, "environ_get", |_: i32, _: i32| 0)?;
    linker.func_wrap(
        WASI,
        "environ_sizes_get",
        |mut caller: Caller<'_, Vec<u8>>, count: u32, bytes: u32| {
            put(&mut caller, count, 0)
                .and_then(|()| put(&mut caller, bytes, 0))
                .map(|()| 0)
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut caller: Caller<'_, Vec<u8>>, _fd: i32, list: u32, n: u32, written: u32| {
            let mut total = 0_u32;
            for entry in (0..n).map(|n| list.saturating_add(n.saturating_mul(8))) {
                let (at, len) = (
                    get(&mut caller, entry)?,
                    get(&mut caller, entry.saturating_add(4))?,
                );
                copy(&mut caller, at, len)?;
                total = total.saturating_add(len);
            }
            put(&mut caller, written, total).map(|()| 0)
        },
    )?;
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg(format!(
            "the guest exited with {code}"
        )))
    })?;
    Ok(())
}

type Guest<'a, 'b> = &'a mut Caller<'b, Vec<u8>>;

fn memory(caller: Guest<'_, '_>) -> wasmtime::Result<wasmtime::Memory> {
    let memory = caller
        .get_export("memory")
        .and_then(wasmtime::Extern::into_memory);
    memory.ok_or_else(|| wasmtime::Error::msg("the guest has no memory"))
}

fn get(caller: Guest<'_, '_>, at: u32) -> wasmtime::Result<u32> {
    let mut bytes = [0; 4];
    memory(caller)?.read(&mut *caller, usize::try_from(at)?, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn put(caller: Guest<'_, '_>, at: u32, value: u32) -> wasmtime::Result<()> {
    memory(caller)?.write(&mut *caller, usize::try_from(at)?, &value.to_le_bytes())?;
    Ok(())
}

fn copy(caller: Guest<'_, '_>, at: u32, len: u32) -> wasmtime::Result<()> {
    let (data, written) = memory(caller)?.data_and_store_mut(&mut *caller);
    let (at, len) = (usize::try_from(at)?, usize::try_from(len)?);
    let bytes = data.get(at..at.saturating_add(len));
    written.extend_from_slice(bytes.ok_or_else(|| wasmtime::Error::msg("out of bounds"))?);
    Ok(())
}
