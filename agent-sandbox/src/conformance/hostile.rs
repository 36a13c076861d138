//! Laws a guest that attacks its host meets.

use std::sync::Arc;

use super::files::TempDir;
use super::{launch, line, output, probe};
use crate::{Access, Exit, Limits, Mount, Overflow, Runtime, Spec, TrapKind};

/// What the probe prints when every way out is closed: opening and moving out are "not permitted"
/// (63), every link out leads nowhere, and a ring of links is a loop (32).
const CLOSED: &str = "up 63\ndeep 63\nabsolute 63\ncreate 63\ndots 63\nrename 63\n\
    link true true true\nslash true true true\ndir true true true\nabs true true true\nloop 32";

/// Dots, absolute paths and links do not lead out of a mount in memory.
pub async fn guest_cannot_leave_memory(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/", Mount::Memory)).await;
    assert_eq!(line(&sandbox, &["escape", "outside"]).await, CLOSED);
}

/// Dots, absolute paths and links do not lead out of a mounted directory of the host.
pub async fn guest_cannot_leave_a_host_directory(runtime: Arc<dyn Runtime>) {
    let dir = TempDir::new();
    std::fs::write(dir.path("outside"), "secret").expect("write");
    std::fs::create_dir(dir.path("inside")).expect("create");
    let mount = Mount::host_directory(dir.path("inside"), Access::ReadWrite);
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/", mount)).await;
    assert_eq!(line(&sandbox, &["escape", "outside"]).await, CLOSED);
    assert_eq!(
        std::fs::read_to_string(dir.path("outside")).expect("read"),
        "secret"
    );
}

/// Links that the host's directory holds already do not lead out either, with or without a slash
/// at the end of their target.
pub async fn planted_links_lead_nowhere(runtime: Arc<dyn Runtime>) {
    let dir = TempDir::new();
    std::fs::write(dir.path("outside"), "secret").expect("write");
    std::fs::create_dir(dir.path("inside")).expect("create");
    let target = dir.root().display().to_string();
    let links = [
        ("file", "../outside".to_owned()),
        ("dir", "..".to_owned()),
        ("slash", "../".to_owned()),
        ("deep", "./././../".to_owned()),
        ("absolute", target.clone()),
        ("absolute-slash", format!("{target}/")),
        ("root", "/".to_owned()),
    ];
    for (name, target) in &links {
        std::os::unix::fs::symlink(target, dir.path("inside").join(name)).expect("link");
    }
    let mount = Mount::host_directory(dir.path("inside"), Access::ReadWrite);
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/", mount)).await;
    for (name, _) in &links {
        for path in [
            format!("/{name}"),
            format!("/{name}/"),
            format!("/{name}/outside"),
        ] {
            let read = line(&sandbox, &["read", &path]).await;
            assert!(
                read.starts_with("errno ") && !read.contains("secret"),
                "{path}: {read}"
            );
            let written = line(&sandbox, &["write", &path, "over"]).await;
            assert!(written.starts_with("errno "), "{path}: {written}");
            assert_eq!(
                line(&sandbox, &["list", &path]).await,
                "cannot list",
                "{path}"
            );
            assert!(
                sandbox.files().read(&path, 1 << 20).await.is_err(),
                "{path}"
            );
        }
    }
    assert_eq!(
        std::fs::read_to_string(dir.path("outside")).expect("read"),
        "secret"
    );
}

fn is_bad_pointer(exit: &Exit) -> bool {
    matches!(
        exit,
        Exit::Trap {
            kind: TrapKind::Interface,
            ..
        }
    )
}

/// A buffer whose end wraps around ends the guest and prints nothing.
pub async fn wrapping_buffers_end_the_guest(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe())).await;
    let output = output(&sandbox, &["iovec-wrap"]).await;
    assert!(
        is_bad_pointer(&output.outcome.exit),
        "{:?}",
        output.outcome.exit
    );
    assert!(output.stdout.is_empty());
}

/// A buffer outside the guest's memory ends the guest and prints nothing.
pub async fn buffers_outside_memory_end_the_guest(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new().with_overflow(Overflow::Truncate);
    let sandbox = launch(&runtime, Spec::new(probe()).with_limits(limits)).await;
    let output = output(&sandbox, &["iovec-outside"]).await;
    assert!(
        is_bad_pointer(&output.outcome.exit),
        "{:?}",
        output.outcome.exit
    );
    assert!(output.stdout.is_empty());
}

/// A mount renumbered over the standard output is a directory there, not a way to print.
pub async fn mount_over_the_output_prints_nothing(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/", Mount::Memory)).await;
    let output = output(&sandbox, &["renumber"]).await;
    // Renumbering succeeds (0) and writing is refused as a bad descriptor (8).
    assert_eq!(output.outcome.exit, Exit::code(8));
    assert!(output.stdout.is_empty());
}

/// There are no sockets: no descriptor is one (57), and none can be made.
pub async fn sockets_are_absent(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/", Mount::Memory)).await;
    assert_eq!(line(&sandbox, &["socket"]).await, "57");
    let without = launch(&runtime, Spec::new(probe())).await;
    assert_eq!(line(&without, &["socket"]).await, "8");
}

/// A guest finds nothing of what an earlier one left in memory, not even in the same slot.
pub async fn memory_is_not_carried_over(runtime: Arc<dyn Runtime>) {
    for _ in 0..2 {
        let sandbox = launch(&runtime, Spec::new(probe())).await;
        for _ in 0..10 {
            assert_eq!(line(&sandbox, &["stain"]).await, "0");
        }
    }
}
