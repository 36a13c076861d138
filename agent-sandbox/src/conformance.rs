//! The laws of [`crate::Runtime`] and [`crate::Sandbox`], for every backend that runs WASI
//! commands. Unstable: laws are added in any release.
//!
//! A backend's test gives [`sandbox_conformance!`](crate::sandbox_conformance) a function that
//! makes a runtime on a given [`Env`], with whatever must be kept alive beside it.

mod files;
mod hostile;
mod limits;
mod running;

use std::sync::Arc;

use agent_core::{Env, Principal, Scope};

use crate::{Exec, Limits, Output, Program, Runtime, Sandbox, SandboxExt as _, Spec};

pub use files::*;
pub use hostile::*;
pub use limits::*;
pub use running::*;

/// A runtime under test and what must be kept alive beside it.
pub type Made<G> = (Arc<dyn Runtime>, G);

/// The environment the runtimes under test are made on.
#[must_use]
pub fn env() -> Env {
    Env::system()
}

/// The guest of the laws: each command is one thing a program, or an attacker, does.
#[must_use]
pub fn probe() -> Program {
    Program::wasm(
        "probe",
        include_bytes!("../guests/probe/probe.wasm").as_slice(),
    )
}

fn scope() -> Scope {
    Scope::new(Principal::host())
}

fn command(args: &[&str]) -> Exec {
    Exec::new().with_args(args.iter().copied())
}

async fn launch(runtime: &Arc<dyn Runtime>, spec: Spec) -> Arc<dyn Sandbox> {
    runtime.launch(&scope(), spec).await.expect("launch")
}

async fn launch_limited(runtime: &Arc<dyn Runtime>, limits: Limits) -> Arc<dyn Sandbox> {
    launch(runtime, Spec::new(probe()).with_limits(limits)).await
}

async fn output(sandbox: &Arc<dyn Sandbox>, args: &[&str]) -> Output {
    sandbox
        .output(&scope(), command(args))
        .await
        .expect("run the guest")
}

/// Runs a command that must succeed and returns what it printed.
async fn line(sandbox: &Arc<dyn Sandbox>, args: &[&str]) -> String {
    let output = output(sandbox, args).await;
    assert!(
        output.is_success(),
        "{args:?}: {:?} {}",
        output.outcome.exit,
        output.stderr_lossy()
    );
    output.stdout_lossy().trim_end().to_owned()
}

/// Runs the laws against a backend: `sandbox_conformance!(make)` with
/// `async fn make(env: Env) -> Made<impl Sized>`.
#[macro_export]
macro_rules! sandbox_conformance {
    ($make:path) => {
        $crate::sandbox_conformance!(@laws $make;
            exit_code_is_a_value,
            fresh_spec_grants_nothing,
            arguments_and_environment_arrive,
            exec_overrides_the_spec,
            standard_input_arrives,
            piped_input_and_output_stream,
            streams_are_apart,
            panic_is_a_trap,
            usage_is_counted,
            virtual_time_and_seed_repeat,
            virtual_sleep_does_not_wait,
            cancel_stops_the_guest,
            dropped_execution_stops_the_guest,
            canceled_scope_starts_nothing,
            passed_deadline_starts_nothing,
            close_stops_guests_and_refuses_more,
            list_holds_open_sandboxes,
            closed_runtime_refuses,
            garbage_is_not_a_program,
            foreign_import_is_refused,
            library_is_not_a_command,
            executions_run_side_by_side,
            output_flood_stops,
            output_flood_is_truncated,
            endless_loop_times_out,
            endless_recursion_traps,
            memory_bomb_is_out_of_memory,
            fuel_runs_out,
            fuel_of_a_run_repeats,
            storage_is_bounded,
            number_of_files_is_bounded,
            open_files_are_bounded,
            path_length_is_bounded,
            random_bytes_are_bounded,
            buffers_are_bounded,
            arguments_are_bounded,
            limits_above_the_runtime_are_refused,
            files_outlive_an_execution,
            host_and_guest_share_files,
            host_sees_typed_file_errors,
            host_cannot_leave_a_mount,
            host_is_bounded_as_the_guest,
            shared_tree_is_read_only,
            copied_tree_is_private,
            mounts_are_apart,
            host_directory_is_mounted,
            host_directory_can_be_read_only,
            bad_mounts_are_refused,
            removed_files_give_room_back,
            closed_sandbox_has_no_files,
            guest_cannot_leave_memory,
            guest_cannot_leave_a_host_directory,
            planted_links_lead_nowhere,
            wrapping_buffers_end_the_guest,
            buffers_outside_memory_end_the_guest,
            mount_over_the_output_prints_nothing,
            sockets_are_absent,
            memory_is_not_carried_over,
        );
    };
    (@laws $make:path; $($law:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (runtime, _guard) = $make($crate::conformance::env()).await;
                $crate::conformance::$law(runtime).await;
            }
        )+
    };
}
