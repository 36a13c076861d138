//! What is the wasm backend's own: its bounds, its clock, its import surface.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    Classify as _, Env, ErrorKind, ManualClock, Principal, Scope, SeededEntropy, Timestamp,
};
use agent_sandbox::backend::wasm::{Config, WasmRuntime};
use agent_sandbox::conformance::probe;
use agent_sandbox::{Exec, Exit, Limits, Program, Runtime as _, SandboxExt as _, Spec, Stdin};

fn scope() -> Scope {
    Scope::new(Principal::host())
}

fn open(config: Config) -> WasmRuntime {
    WasmRuntime::open(config.with_pooling(false)).unwrap()
}

fn command(args: &[&str]) -> Exec {
    Exec::new().with_args(args.iter().copied())
}

#[tokio::test]
async fn time_limit_follows_the_runtimes_clock() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_unix_ms(1_000)));
    let env = Env::new(
        Arc::<ManualClock>::clone(&clock),
        Arc::new(SeededEntropy::new(1)),
    );
    let runtime = open(Config::new(env));
    let limits = Limits::new().with_wall_max(Duration::from_secs(3_600));
    let sandbox = runtime
        .launch(&scope(), Spec::new(probe()).with_limits(limits))
        .await
        .unwrap();
    let execution = sandbox.exec(&scope(), command(&["loop"])).await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(execution.wait().await.unwrap().exit, Exit::TimedOut);
    assert_eq!(
        sandbox
            .output(&scope(), command(&["args"]))
            .await
            .unwrap()
            .outcome
            .exit,
        Exit::code(0)
    );
}

#[tokio::test]
async fn guests_wait_for_a_slot_within_a_bound() {
    let runtime = open(
        Config::new(Env::system())
            .with_concurrency_max(1)
            .with_waiting_max(1),
    );
    let sandbox = runtime.launch(&scope(), Spec::new(probe())).await.unwrap();
    let first = command(&["cat-stdin"]).with_stdin(Stdin::Pipe);
    let mut first = sandbox.exec(&scope(), first).await.unwrap();
    let (a, b) = (scope(), scope());
    let mut second = Box::pin(sandbox.output(&a, command(&["args"])));
    tokio::select! {
        biased;
        _ = &mut second => panic!("there is one slot"),
        () = tokio::task::yield_now() => {}
    }
    let refused = sandbox.exec(&b, command(&["args"])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    drop(first.take_stdin());
    assert_eq!(first.wait().await.unwrap().exit, Exit::code(0));
    assert!(second.await.unwrap().is_success());
}

#[tokio::test]
async fn waiting_for_a_slot_ends_with_the_sandbox() {
    let runtime = open(Config::new(Env::system()).with_concurrency_max(1));
    let busy = runtime.launch(&scope(), Spec::new(probe())).await.unwrap();
    let waits = runtime.launch(&scope(), Spec::new(probe())).await.unwrap();
    let _running = busy.exec(&scope(), command(&["loop"])).await.unwrap();
    let scope = scope();
    let mut waiting = Box::pin(waits.output(&scope, command(&["args"])));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there is one slot"),
        () = tokio::task::yield_now() => {}
    }
    waits.close().await.unwrap();
    assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn sandboxes_are_bounded() {
    let runtime = open(Config::new(Env::system()).with_sandboxes_max(2));
    let one = runtime.launch(&scope(), Spec::new(probe())).await.unwrap();
    let _two = runtime.launch(&scope(), Spec::new(probe())).await.unwrap();
    let refused = runtime
        .launch(&scope(), Spec::new(probe()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    one.close().await.unwrap();
    assert!(runtime.launch(&scope(), Spec::new(probe())).await.is_ok());
}

#[tokio::test]
async fn large_programs_are_refused() {
    let runtime = open(Config::new(Env::system()).with_program_bytes_max(1_000));
    let refused = runtime.prepare(&probe()).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Invalid, "sandbox.program")
    );
}

#[test]
fn bad_configurations_are_refused() {
    for config in [
        Config::new(Env::system()).with_concurrency_max(0),
        Config::new(Env::system()).with_memory_bytes_max(1 << 40),
    ] {
        assert_eq!(
            WasmRuntime::open(config).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}

#[tokio::test]
async fn too_little_address_space_is_said_and_survived() {
    // A slot reserves 4 GiB and more: this many do not fit in 47 bits.
    let config = Config::new(Env::system()).with_concurrency_max(60_000);
    let runtime = WasmRuntime::open(config).unwrap();
    let probed = runtime.probe().await.unwrap();
    assert_eq!(probed.remarks.len(), 1, "{probed:?}");
    let sandbox = runtime.launch(&scope(), Spec::new(probe())).await.unwrap();
    assert!(
        sandbox
            .output(&scope(), command(&["args"]))
            .await
            .unwrap()
            .is_success()
    );
}

#[tokio::test]
async fn evicted_programs_run_again() {
    let runtime = open(Config::new(Env::system()).with_programs_max(1));
    let hello = Program::wasm(
        "hello",
        include_bytes!("../guests/probe/hello.wasm").as_slice(),
    );
    let sandbox = runtime
        .launch(&scope(), Spec::new(hello.clone()))
        .await
        .unwrap();
    let smallest = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
    runtime
        .prepare(&Program::wasm("smallest", smallest.as_slice()))
        .await
        .unwrap();
    assert!(
        sandbox
            .output(&scope(), Exec::new())
            .await
            .unwrap()
            .is_success()
    );
}

/// A module that imports one function of each given type and does nothing.
fn importer(functions: &[(&str, &str)]) -> Vec<u8> {
    fn leb(mut n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let byte = u8::try_from(n & 0x7f).unwrap();
            n >>= 7;
            if n == 0 {
                out.push(byte);
                return out;
            }
            out.push(byte | 0x80);
        }
    }
    fn section(id: u8, count: usize, items: &[u8]) -> Vec<u8> {
        let body = [leb(count), items.to_vec()].concat();
        [vec![id], leb(body.len()), body].concat()
    }
    let name = |text: &str| [leb(text.len()), text.as_bytes().to_vec()].concat();
    let n = functions.len();
    let mut types = vec![0x60, 0, 0];
    let mut imports = Vec::new();
    for (index, (function, params)) in functions.iter().enumerate() {
        let params: Vec<u8> = params
            .bytes()
            .map(|b| if b == b'L' { 0x7e } else { 0x7f })
            .collect();
        let results: &[u8] = if *function == "proc_exit" {
            &[0]
        } else {
            &[1, 0x7f]
        };
        types.extend([vec![0x60], leb(params.len()), params, results.to_vec()].concat());
        imports.extend(
            [
                name("wasi_snapshot_preview1"),
                name(function),
                vec![0],
                leb(index + 1),
            ]
            .concat(),
        );
    }
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, n + 1, &types),
        section(2, n, &imports),
        section(3, 1, &[0]),
        section(7, 1, &[name("_start"), vec![0], leb(n)].concat()),
        section(10, 1, &[2, 0, 0x0b]),
    ]
    .concat()
}

/// Every function of the interface with its parameters: `i` is 32 bits, `L` is 64.
const PREVIEW1: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iLi"),
    ("fd_advise", "iLLi"),
    ("fd_allocate", "iLL"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iLL"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iL"),
    ("fd_filestat_set_times", "iLLi"),
    ("fd_pread", "iiiLi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiLi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiLi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iLii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiLLi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiLLii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("sched_yield", ""),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

#[tokio::test]
async fn every_function_of_preview1_links() {
    let runtime = open(Config::new(Env::system()));
    let all = Program::wasm("all", importer(&PREVIEW1));
    let sandbox = runtime.launch(&scope(), Spec::new(all)).await.unwrap();
    assert!(
        sandbox
            .output(&scope(), Exec::new())
            .await
            .unwrap()
            .is_success()
    );
    let wrong = Program::wasm("wrong", importer(&[("fd_close", "L")]));
    let refused = runtime.prepare(&wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let unknown = Program::wasm("unknown", importer(&[("fd_open", "i")]));
    let refused = runtime.prepare(&unknown).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
