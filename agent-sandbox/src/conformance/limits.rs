//! Laws of limits: each is met by a guest that wants more.

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Classify as _, ErrorKind, Unit};

use super::{command, launch, launch_limited, line, output, probe, scope};
use crate::{Exit, Limits, Mount, Overflow, Runtime, SandboxExt as _, Spec, Stream, TrapKind};

/// A guest that writes more than its limit is stopped, and the limit's bytes are kept.
pub async fn output_flood_stops(runtime: Arc<dyn Runtime>) {
    let sandbox = launch_limited(&runtime, Limits::new().with_output_bytes_max(10_000, 100)).await;
    let flooded = output(&sandbox, &["flood", "100000000"]).await;
    assert_eq!(
        flooded.outcome.exit,
        Exit::output_limit(Stream::Stdout, 10_000)
    );
    assert_eq!(flooded.stdout.len(), 10_000);
    assert!(flooded.outcome.truncated);
    let exact = output(&sandbox, &["flood", "10000"]).await;
    assert!(exact.is_success() && !exact.outcome.truncated);
}

/// With truncation the guest goes on, and the outcome says how much was cut off.
pub async fn output_flood_is_truncated(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new()
        .with_output_bytes_max(10_000, 100)
        .with_overflow(Overflow::Truncate);
    let sandbox = launch_limited(&runtime, limits).await;
    let flooded = output(&sandbox, &["flood", "1000000"]).await;
    assert_eq!(flooded.outcome.exit, Exit::code(0));
    assert_eq!(flooded.stdout.len(), 10_000);
    assert_eq!(
        (flooded.outcome.truncated, flooded.outcome.stdout_bytes),
        (true, 1_000_000)
    );
}

/// A loop without calls ends at the time limit, and so does a wait.
pub async fn endless_loop_times_out(runtime: Arc<dyn Runtime>) {
    let sandbox = launch_limited(
        &runtime,
        Limits::new().with_wall_max(Duration::from_millis(20)),
    )
    .await;
    for args in [["loop", ""], ["sleep", "3600000"]] {
        assert_eq!(output(&sandbox, &args).await.outcome.exit, Exit::TimedOut);
    }
    let exec = command(&["loop"]).with_wall_max(Duration::ZERO);
    let ended = sandbox.output(&scope(), exec).await.expect("run");
    assert_eq!(ended.outcome.exit, Exit::TimedOut);
}

/// Deep recursion is a trap of the guest's stack, not the host's.
pub async fn endless_recursion_traps(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let exit = output(&sandbox, &["recurse"]).await.outcome.exit;
    // A guest keeps a part of its stack in its own memory, and may run out of that first.
    let kinds = [TrapKind::StackOverflow, TrapKind::OutOfBounds];
    assert!(
        matches!(&exit, Exit::Trap { kind, .. } if kinds.contains(kind)),
        "{exit:?}"
    );
    assert_eq!(line(&sandbox, &["exit", "0"]).await, "");
}

/// A guest that needs more memory than its limit ends as out of memory.
pub async fn memory_bomb_is_out_of_memory(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new().with_memory_bytes_max(16 << 20);
    let sandbox = launch_limited(&runtime, limits.clone()).await;
    assert_eq!(
        line(&sandbox, &["allocate", "8000000"]).await,
        "allocated 8000000"
    );
    let bomb = output(&sandbox, &["allocate", "100000000"]).await;
    assert_eq!(bomb.outcome.exit, Exit::out_of_memory(16 << 20));
    // Less than the program needs to start.
    let sandbox = launch_limited(&runtime, limits.with_memory_bytes_max(65_536)).await;
    let start = output(&sandbox, &["exit", "0"]).await;
    assert_eq!(start.outcome.exit, Exit::out_of_memory(65_536));
}

/// A guest that uses up its fuel ends as out of fuel.
pub async fn fuel_runs_out(runtime: Arc<dyn Runtime>) {
    let sandbox = launch_limited(&runtime, Limits::new().with_fuel_max(1_000_000)).await;
    let ended = output(&sandbox, &["loop"]).await;
    assert_eq!(ended.outcome.exit, Exit::out_of_fuel(1_000_000));
    assert_eq!(ended.outcome.usage.get(Unit::Fuel), 1_000_000);
}

/// Two runs of the same work use the same fuel.
pub async fn fuel_of_a_run_repeats(runtime: Arc<dyn Runtime>) {
    let sandbox = launch_limited(&runtime, Limits::new().with_fuel_max(100_000_000)).await;
    let first = output(&sandbox, &["args"])
        .await
        .outcome
        .usage
        .get(Unit::Fuel);
    let second = output(&sandbox, &["args"])
        .await
        .outcome
        .usage
        .get(Unit::Fuel);
    assert!(first > 0 && first == second, "{first} {second}");
}

fn with_files(limits: Limits) -> Spec {
    Spec::new(probe())
        .with_mount("/", Mount::Memory)
        .with_limits(limits)
}

/// A file and all files together have a largest size.
pub async fn storage_is_bounded(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new().with_storage_bytes_max(200_000, 300_000);
    let sandbox = launch(&runtime, with_files(limits)).await;
    // 51 is "no space left" in the guest's interface.
    assert_eq!(
        line(&sandbox, &["grow", "/a", "100"]).await,
        "errno 51 after 3"
    );
    assert_eq!(
        line(&sandbox, &["grow", "/b", "100"]).await,
        "errno 51 after 1"
    );
    assert!(sandbox.metrics().storage_bytes <= 300_000);
}

/// The number of files is bounded, and tiny files count.
pub async fn number_of_files_is_bounded(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, with_files(Limits::new().with_files_max(100))).await;
    assert_eq!(
        line(&sandbox, &["many-files", "/", "1000000"]).await,
        "errno 51 after 100"
    );
    assert_eq!(sandbox.metrics().files, 100);
}

/// The number of open descriptors is bounded.
pub async fn open_files_are_bounded(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, with_files(Limits::new().with_open_files_max(20))).await;
    // Three streams and the mount are open already; 33 is "too many open files".
    assert_eq!(
        line(&sandbox, &["many-open", "/f"]).await,
        "errno 33 after 16"
    );
}

/// Paths have a largest length.
pub async fn path_length_is_bounded(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, with_files(Limits::new().with_path_bytes_max(100))).await;
    // 44 is "not found", 37 is "name too long".
    assert_eq!(line(&sandbox, &["long-path", "50"]).await, "44");
    assert_eq!(line(&sandbox, &["long-path", "51"]).await, "37");
}

/// A huge request for random bytes is refused inside the guest.
pub async fn random_bytes_are_bounded(runtime: Arc<dyn Runtime>) {
    let sandbox = launch_limited(&runtime, Limits::new().with_random_bytes_max(1_000)).await;
    assert!(line(&sandbox, &["random", "1000"]).await.starts_with("0 "));
    assert!(line(&sandbox, &["random", "1001"]).await.starts_with("28 "));
    assert!(
        line(&sandbox, &["random", "100000000"])
            .await
            .starts_with("28 ")
    );
}

/// The buffers of one call are bounded in number, and in what they add up to.
pub async fn buffers_are_bounded(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new()
        .with_iovecs_max(16)
        .with_overflow(Overflow::Truncate);
    let sandbox = launch_limited(&runtime, limits).await;
    assert_eq!(
        output(&sandbox, &["iovec-total", "16"])
            .await
            .stderr_lossy(),
        "0\n"
    );
    assert_eq!(
        output(&sandbox, &["iovec-total", "17"])
            .await
            .stderr_lossy(),
        "28\n"
    );
}

/// Arguments and environment have a largest size and hold no NUL.
pub async fn arguments_are_bounded(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let huge = "x".repeat(1 << 20);
    for exec in [
        command(&["args", &huge]),
        command(&["args", "nul\0inside"]),
        command(&["env"]).with_env("A=B", "1"),
        command(&["env"]).with_env("", "1"),
    ] {
        let refused = sandbox.exec(&scope(), exec).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

/// A spec that asks for more than the runtime has is refused, not narrowed.
pub async fn limits_above_the_runtime_are_refused(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new().with_memory_bytes_max(u64::MAX);
    let spec = Spec::new(probe()).with_limits(limits);
    let refused = runtime.launch(&scope(), spec).await.expect_err("too much");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}
