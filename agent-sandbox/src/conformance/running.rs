//! Laws of starting, talking to and stopping guests.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify as _, ErrorKind, Timestamp, Unit};

use super::{command, launch, launch_limited, line, output, probe, scope};
use crate::{
    Exec, Exit, GuestClock, Limits, Program, Runtime, SandboxExt as _, Spec, State, Stdin, TrapKind,
};

/// How a guest ends is a value of the outcome.
pub async fn exit_code_is_a_value(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    for code in [0_u32, 1, 42, 255] {
        let ended = output(&sandbox, &["exit", &code.to_string()]).await;
        assert_eq!(ended.outcome.exit, Exit::code(code));
        assert_eq!(ended.is_success(), code == 0);
    }
}

/// A fresh spec grants no argument, variable, file or input.
pub async fn fresh_spec_grants_nothing(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    assert_eq!(line(&sandbox, &["args"]).await, r#"["probe", "args"]"#);
    assert_eq!(line(&sandbox, &["env"]).await, "[]");
    assert_eq!(line(&sandbox, &["mounts"]).await, "0");
    assert_eq!(line(&sandbox, &["cat-stdin"]).await, "");
    assert_eq!(line(&sandbox, &["list", "/"]).await, "cannot list");
}

/// Arguments and environment arrive as they are given, whatever they hold.
pub async fn arguments_and_environment_arrive(runtime: Arc<dyn Runtime>) {
    let spec = Spec::new(probe())
        .with_args(["args", "two words", "", "ünï\n\"quote\""])
        .with_env("B", "2=two")
        .with_env("A", "");
    let sandbox = launch(&runtime, spec).await;
    let args = sandbox.output(&scope(), Exec::new()).await.expect("run");
    let expected = format!(
        "{:?}\n",
        ["probe", "args", "two words", "", "ünï\n\"quote\""]
    );
    assert_eq!(args.stdout_lossy(), expected);
    assert_eq!(
        line(&sandbox, &["env"]).await,
        r#"[("A", ""), ("B", "2=two")]"#
    );
}

/// What an exec sets goes before what the spec sets.
pub async fn exec_overrides_the_spec(runtime: Arc<dyn Runtime>) {
    let spec = Spec::new(probe())
        .with_args(["args"])
        .with_env("A", "spec")
        .with_env("B", "spec");
    let sandbox = launch(&runtime, spec).await;
    let exec = command(&["env"])
        .with_env("A", "exec")
        .with_env("C", "exec");
    let output = sandbox.output(&scope(), exec).await.expect("run");
    assert_eq!(
        output.stdout_lossy(),
        "[(\"A\", \"exec\"), (\"B\", \"spec\"), (\"C\", \"exec\")]\n"
    );
    let hello = Program::wasm(
        "hello",
        include_bytes!("../../guests/probe/hello.wasm").as_slice(),
    );
    let output = sandbox
        .output(&scope(), Exec::new().with_program(hello))
        .await
        .expect("run");
    assert_eq!(output.stdout_lossy(), "hello from a guest\n");
}

/// All bytes of the standard input arrive, then its end.
pub async fn standard_input_arrives(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let exec = command(&["cat-stdin"]).with_stdin(bytes.clone());
    let output = sandbox.output(&scope(), exec).await.expect("run");
    assert_eq!(output.stdout, bytes);
    assert_eq!(output.outcome.stdout_bytes, 200_000);
}

/// A guest answers piped input while it runs, and ends when the pipe does.
pub async fn piped_input_and_output_stream(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let exec = command(&["echo-lines"]).with_stdin(Stdin::Pipe);
    let mut execution = sandbox.exec(&scope(), exec).await.expect("start");
    let mut stdin = execution.take_stdin().expect("a pipe");
    assert!(execution.take_stdin().is_none());
    for text in ["one", "two"] {
        stdin
            .write(format!("{text}\n").as_bytes())
            .await
            .expect("write");
        let wanted = format!("got {text}\n");
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            got.extend(execution.stdout().next().await.expect("an answer"));
        }
        assert_eq!(got, wanted.as_bytes());
    }
    drop(stdin);
    assert_eq!(execution.stdout().next().await, None);
    assert_eq!(execution.wait().await.expect("end").exit, Exit::code(0));
}

/// Standard output and error do not mix.
pub async fn streams_are_apart(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let output = output(&sandbox, &["both"]).await;
    assert_eq!(
        (output.stdout_lossy(), output.stderr_lossy()),
        ("to stdout".into(), "to stderr".into())
    );
}

/// A guest that aborts is a trap, and what it wrote before is kept.
pub async fn panic_is_a_trap(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let output = output(&sandbox, &["panic"]).await;
    let trapped = matches!(
        output.outcome.exit,
        Exit::Trap {
            kind: TrapKind::Unreachable,
            ..
        }
    );
    assert!(trapped, "{:?}", output.outcome.exit);
    assert!(output.stderr_lossy().contains("as asked"));
}

/// Usage is counted per execution and summed per sandbox.
pub async fn usage_is_counted(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(
        &runtime,
        Spec::new(probe()).with_mount("/", crate::Mount::Memory),
    )
    .await;
    let output = output(&sandbox, &["write", "/f", "12345"]).await;
    assert_eq!(output.outcome.usage.get(Unit::Calls), 1);
    assert_eq!(output.outcome.usage.get(Unit::StorageBytes), 5);
    assert!(output.outcome.usage.get(Unit::MemoryMibMs) > 0);
    let again = line(&sandbox, &["exit", "0"]).await;
    assert_eq!(again, "");
    let metrics = sandbox.metrics();
    assert_eq!((metrics.execs_running, metrics.execs_ended), (0, 2));
    assert_eq!(metrics.usage.get(Unit::Calls), 2);
    assert_eq!((metrics.storage_bytes, metrics.files), (5, 1));
}

/// With a virtual clock and a seed two executions see the same time and random bytes.
pub async fn virtual_time_and_seed_repeat(runtime: Arc<dyn Runtime>) {
    let start = Timestamp::from_unix_ms(1_767_225_600_000);
    let clock = GuestClock::virtual_from(start, Duration::from_millis(1));
    let spec = Spec::new(probe()).with_clock(clock).with_seed(7);
    let sandbox = launch(&runtime, spec.clone()).await;
    let time = line(&sandbox, &["time"]).await;
    assert_eq!(time, "1767225600000 1000000");
    assert_eq!(line(&sandbox, &["time"]).await, time);
    let random = line(&sandbox, &["random", "16"]).await;
    assert_eq!(line(&sandbox, &["random", "16"]).await, random);
    let other = launch(&runtime, spec.with_seed(8)).await;
    assert_ne!(line(&other, &["random", "16"]).await, random);
}

/// A guest that sleeps on a virtual clock moves it and goes on at once.
pub async fn virtual_sleep_does_not_wait(runtime: Arc<dyn Runtime>) {
    let clock = GuestClock::virtual_from(Timestamp::EPOCH, Duration::ZERO);
    let sandbox = launch(&runtime, Spec::new(probe()).with_clock(clock)).await;
    assert_eq!(line(&sandbox, &["sleep", "3600000"]).await, "3600000");
}

/// Canceling an execution stops a guest that computes and one that waits.
pub async fn cancel_stops_the_guest(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    for args in [["loop", ""], ["sleep", "3600000"], ["cat-stdin", ""]] {
        let exec = command(&args).with_stdin(Stdin::Pipe);
        let mut execution = sandbox.exec(&scope(), exec).await.expect("start");
        let _open = execution.take_stdin();
        assert_eq!(
            execution.cancel().wait().await.expect("end").exit,
            Exit::Canceled,
            "{args:?}"
        );
    }
    let scope = scope();
    let execution = sandbox
        .exec(&scope, command(&["loop"]))
        .await
        .expect("start");
    scope.cancellation.cancel();
    assert_eq!(execution.wait().await.expect("end").exit, Exit::Canceled);
}

/// A guest whose execution is dropped ends: closing the sandbox has nothing to wait for.
pub async fn dropped_execution_stops_the_guest(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    drop(
        sandbox
            .exec(&scope(), command(&["loop"]))
            .await
            .expect("start"),
    );
    while sandbox.metrics().execs_running > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(line(&sandbox, &["exit", "0"]).await, "");
}

/// Nothing starts for a scope that is canceled.
pub async fn canceled_scope_starts_nothing(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let scope = scope();
    scope.cancellation.cancel();
    let refused = sandbox
        .exec(&scope, command(&["loop"]))
        .await
        .expect_err("canceled");
    assert_eq!(refused.kind(), ErrorKind::Canceled);
    let refused = runtime
        .launch(&scope, Spec::new(probe()))
        .await
        .expect_err("canceled");
    assert_eq!(refused.kind(), ErrorKind::Canceled);
    assert_eq!(sandbox.metrics().execs_ended, 0);
}

/// Nothing starts for a scope whose deadline passed; a later deadline ends a running guest.
pub async fn passed_deadline_starts_nothing(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let late = scope().with_deadline(Timestamp::from_unix_ms(1));
    let refused = sandbox
        .exec(&late, command(&["exit", "0"]))
        .await
        .expect_err("too late");
    assert_eq!(refused.kind(), ErrorKind::TimedOut);
    let soon = scope().with_deadline(super::env().clock.now().after(Duration::from_millis(50)));
    match sandbox.output(&soon, command(&["loop"])).await {
        Ok(output) => assert_eq!(output.outcome.exit, Exit::TimedOut),
        Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
    }
}

/// Closing a sandbox stops its guests; it then takes no more, and closing again is fine.
pub async fn close_stops_guests_and_refuses_more(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    assert_eq!(sandbox.state(), State::Running);
    let execution = sandbox
        .exec(&scope(), command(&["loop"]))
        .await
        .expect("start");
    sandbox.close().await.expect("close");
    assert_eq!(execution.wait().await.expect("end").exit, Exit::Canceled);
    assert_eq!(sandbox.state(), State::Terminated);
    sandbox.close().await.expect("close again");
    let refused = sandbox
        .exec(&scope(), command(&["exit", "0"]))
        .await
        .expect_err("closed");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

/// The list holds the sandboxes that are open, with their labels.
pub async fn list_holds_open_sandboxes(runtime: Arc<dyn Runtime>) {
    let one = launch(&runtime, Spec::new(probe()).with_label("n", "one")).await;
    let two = launch(&runtime, Spec::new(probe())).await;
    let ids: Vec<_> = runtime.list().iter().map(|sandbox| sandbox.id()).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&one.id()) && ids.contains(&two.id()));
    assert_eq!(one.labels().get("n").map(String::as_str), Some("one"));
    two.close().await.expect("close");
    assert_eq!(runtime.list().len(), 1);
    drop(one);
    assert!(runtime.list().is_empty());
}

/// A closed runtime closed its sandboxes and starts no more.
pub async fn closed_runtime_refuses(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let execution = sandbox
        .exec(&scope(), command(&["loop"]))
        .await
        .expect("start");
    runtime.close().await.expect("close");
    assert_eq!(execution.wait().await.expect("end").exit, Exit::Canceled);
    assert_eq!(sandbox.state(), State::Terminated);
    let refused = runtime
        .launch(&scope(), Spec::new(probe()))
        .await
        .expect_err("closed");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    runtime.close().await.expect("close again");
}

/// Executions of one sandbox run at the same time and see the same files.
pub async fn executions_run_side_by_side(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(
        &runtime,
        Spec::new(probe()).with_mount("/", crate::Mount::Memory),
    )
    .await;
    let exec = command(&["echo-lines"]).with_stdin(Stdin::Pipe);
    let mut first = sandbox.exec(&scope(), exec).await.expect("start");
    assert_eq!(line(&sandbox, &["write", "/f", "beside"]).await, "written");
    assert_eq!(line(&sandbox, &["read", "/f"]).await, "beside");
    drop(first.take_stdin());
    assert_eq!(first.wait().await.expect("end").exit, Exit::code(0));
}

/// Bytes that are no module are refused when a sandbox is launched.
pub async fn garbage_is_not_a_program(runtime: Arc<dyn Runtime>) {
    for bytes in [b"".as_slice(), b"\0asm", b"#!/bin/sh\nexit 0\n"] {
        let program = Program::wasm("garbage", bytes);
        let refused = runtime
            .launch(&scope(), Spec::new(program))
            .await
            .expect_err("garbage");
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

/// A module that imports what no guest is given is refused by the import's name.
pub async fn foreign_import_is_refused(runtime: Arc<dyn Runtime>) {
    // (module (import "env" "system" (func)) (func (export "_start")))
    let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0e\x01\x03env\x06system\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\x01\x0a\x04\x01\x02\0\x0b";
    let refused = runtime
        .prepare(&Program::wasm("foreign", module.as_slice()))
        .await;
    let error = refused.expect_err("a foreign import");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unsupported, "sandbox.import")
    );
}

/// A module without `_start` is refused.
pub async fn library_is_not_a_command(runtime: Arc<dyn Runtime>) {
    // (module)
    let refused = runtime
        .prepare(&Program::wasm("library", b"\0asm\x01\0\0\0".as_slice()))
        .await;
    assert_eq!(refused.expect_err("a library").code(), "sandbox.program");
    // (module (func (export "_start")))
    let smallest = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
    let program = Program::wasm("smallest", smallest.as_slice());
    let sandbox = launch(&runtime, Spec::new(program).with_limits(Limits::new())).await;
    let output = sandbox.output(&scope(), Exec::new()).await.expect("run");
    assert_eq!(output.outcome.exit, Exit::code(0));
    drop(launch_limited(&runtime, Limits::new()).await);
}
