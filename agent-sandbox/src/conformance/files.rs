//! Laws of files: mounts, and the host's view of them.

use std::sync::Arc;

use agent_core::{Classify as _, ErrorKind};

use super::{launch, line, probe, scope};
use crate::{Access, Error, FileProblem, FileTree, FileType, Limits, Mount, Runtime, Spec};

const MIB: u64 = 1 << 20;

fn tree() -> FileTree {
    let tree = FileTree::builder().file("lib/a.txt", b"shared a".as_slice());
    tree.file("b.txt", b"shared b".as_slice())
        .build()
        .expect("a tree")
}

fn problem(error: &Error) -> Option<FileProblem> {
    match error {
        Error::File { problem, .. } => Some(*problem),
        _ => None,
    }
}

/// What one execution writes, the next one reads.
pub async fn files_outlive_an_execution(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(
        &runtime,
        Spec::new(probe()).with_mount("/work", Mount::Memory),
    )
    .await;
    assert_eq!(
        line(&sandbox, &["write", "/work/f", "one"]).await,
        "written"
    );
    assert_eq!(
        line(&sandbox, &["append", "/work/f", " two"]).await,
        "written"
    );
    assert_eq!(line(&sandbox, &["read", "/work/f"]).await, "one two");
    let other = launch(
        &runtime,
        Spec::new(probe()).with_mount("/work", Mount::Memory),
    )
    .await;
    assert_eq!(line(&other, &["read", "/work/f"]).await, "errno 44");
}

/// The host and the guest see one another's files.
pub async fn host_and_guest_share_files(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(
        &runtime,
        Spec::new(probe()).with_mount("/work", Mount::Memory),
    )
    .await;
    let files = sandbox.files();
    files.create_dir("/work/in").await.expect("create");
    files
        .write("/work/in/x", b"from the host".to_vec())
        .await
        .expect("write");
    assert_eq!(
        line(&sandbox, &["read", "/work/in/x"]).await,
        "from the host"
    );
    line(&sandbox, &["write", "/work/in/y", "from the guest"]).await;
    assert_eq!(
        files.read("/work/in/y", MIB).await.expect("read"),
        b"from the guest"
    );
    files
        .write("/work/in/y", b"over".to_vec())
        .await
        .expect("replace");
    assert_eq!(line(&sandbox, &["read", "/work/in/y"]).await, "over");
    let names: Vec<_> = files.list("/work/in").await.expect("list");
    let names: Vec<_> = names
        .iter()
        .map(|entry| (entry.name.as_str(), entry.file_type))
        .collect();
    assert_eq!(names, [("x", FileType::File), ("y", FileType::File)]);
    let stat = files.stat("/work/in/y").await.expect("stat");
    assert_eq!((stat.file_type, stat.size), (FileType::File, 4));
    files.remove("/work/in/x").await.expect("remove");
    assert_eq!(line(&sandbox, &["list", "/work/in"]).await, "y");
}

/// The host's failures say what stood in the way.
pub async fn host_sees_typed_file_errors(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(
        &runtime,
        Spec::new(probe()).with_mount("/work", Mount::Memory),
    )
    .await;
    let files = sandbox.files();
    files.create_dir("/work/dir").await.expect("create");
    files
        .write("/work/dir/f", vec![0; 100])
        .await
        .expect("write");
    let read = files.read("/work/none", MIB).await.expect_err("missing");
    assert_eq!(
        (problem(&read), read.kind()),
        (Some(FileProblem::NotFound), ErrorKind::NotFound)
    );
    let outside = files.read("/elsewhere", MIB).await.expect_err("no mount");
    assert_eq!(outside.kind(), ErrorKind::NotFound);
    let large = files.read("/work/dir/f", 99).await.expect_err("too large");
    assert_eq!(large.kind(), ErrorKind::Exhausted);
    let directory = files.read("/work/dir", MIB).await.expect_err("a directory");
    assert_eq!(problem(&directory), Some(FileProblem::IsDirectory));
    let through = files
        .read("/work/dir/f/g", MIB)
        .await
        .expect_err("through a file");
    assert_eq!(problem(&through), Some(FileProblem::NotDirectory));
    let full = files.remove("/work/dir").await.expect_err("not empty");
    assert_eq!(
        (problem(&full), full.kind()),
        (Some(FileProblem::NotEmpty), ErrorKind::Conflict)
    );
    let taken = files.create_dir("/work/dir").await.expect_err("taken");
    assert_eq!(problem(&taken), Some(FileProblem::Exists));
    let listed = files.list("/work/dir/f").await.expect_err("a file");
    assert_eq!(problem(&listed), Some(FileProblem::NotDirectory));
}

/// The host's paths cannot leave a mount either.
pub async fn host_cannot_leave_a_mount(runtime: Arc<dyn Runtime>) {
    let spec = Spec::new(probe())
        .with_mount("/work", Mount::Memory)
        .with_mount("/other", Mount::Shared(tree()));
    let sandbox = launch(&runtime, spec).await;
    let files = sandbox.files();
    for path in [
        "/work/../other/b.txt",
        "/work/..",
        "/work/a/../../other/b.txt",
    ] {
        let refused = files.read(path, MIB).await.expect_err(path);
        let expected = [Some(FileProblem::Escape), Some(FileProblem::NotFound)];
        assert!(expected.contains(&problem(&refused)), "{path}: {refused}");
    }
    // Only whole parts of a path name a mount.
    assert!(files.read("/otherwise", MIB).await.is_err());
    assert_eq!(
        files.read("/other/b.txt", MIB).await.expect("read"),
        b"shared b"
    );
}

/// The limits hold for what the host writes, too.
pub async fn host_is_bounded_as_the_guest(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new()
        .with_storage_bytes_max(100, 150)
        .with_files_max(2);
    let spec = Spec::new(probe())
        .with_mount("/", Mount::Memory)
        .with_limits(limits);
    let sandbox = launch(&runtime, spec).await;
    let files = sandbox.files();
    let large = files
        .write("/a", vec![0; 101])
        .await
        .expect_err("one too large");
    assert_eq!(large.kind(), ErrorKind::Exhausted);
    files.write("/a", vec![0; 100]).await.expect("the largest");
    let total = files
        .write("/b", vec![0; 51])
        .await
        .expect_err("all too large");
    assert_eq!(total.kind(), ErrorKind::Exhausted);
    files.write("/b", vec![0; 50]).await.expect("all there is");
    let third = files
        .write("/c", Vec::new())
        .await
        .expect_err("one file too many");
    assert_eq!(third.kind(), ErrorKind::Exhausted);
}

/// A shared tree is read by many sandboxes and changed by none.
pub async fn shared_tree_is_read_only(runtime: Arc<dyn Runtime>) {
    let tree = tree();
    for _ in 0..2 {
        let spec = Spec::new(probe()).with_mount("/lib", Mount::Shared(tree.clone()));
        let sandbox = launch(&runtime, spec).await;
        assert_eq!(
            line(&sandbox, &["read", "/lib/lib/a.txt"]).await,
            "shared a"
        );
        assert_eq!(line(&sandbox, &["list", "/lib"]).await, "b.txt lib");
        // 69 is "read-only file system".
        assert_eq!(
            line(&sandbox, &["write", "/lib/b.txt", "x"]).await,
            "errno 69"
        );
        assert_eq!(
            line(&sandbox, &["write", "/lib/new", "x"]).await,
            "errno 69"
        );
        assert_eq!(line(&sandbox, &["remove", "/lib/b.txt"]).await, "errno 69");
        let refused = sandbox
            .files()
            .write("/lib/b.txt", Vec::new())
            .await
            .expect_err("denied");
        assert_eq!(refused.kind(), ErrorKind::Denied);
        assert_eq!(sandbox.metrics().storage_bytes, 0);
    }
}

/// A copied tree is changed for its sandbox alone.
pub async fn copied_tree_is_private(runtime: Arc<dyn Runtime>) {
    let tree = tree();
    let spec = Spec::new(probe()).with_mount("/", Mount::Copy(tree.clone()));
    let (one, two) = (
        launch(&runtime, spec.clone()).await,
        launch(&runtime, spec).await,
    );
    assert_eq!(
        line(&one, &["append", "/b.txt", " and more"]).await,
        "written"
    );
    assert_eq!(line(&one, &["remove", "/lib/a.txt"]).await, "removed");
    assert_eq!(line(&one, &["read", "/b.txt"]).await, "shared b and more");
    assert_eq!(line(&two, &["read", "/b.txt"]).await, "shared b");
    assert_eq!(line(&two, &["read", "/lib/a.txt"]).await, "shared a");
    assert_eq!(
        tree.get("b.txt").map(|bytes| bytes.to_vec()),
        Some(b"shared b".to_vec())
    );
    // Only what a sandbox wrote counts against it.
    assert_eq!(
        (one.metrics().storage_bytes, two.metrics().storage_bytes),
        (17, 0)
    );
}

/// A file cannot be moved from one mount to another.
pub async fn mounts_are_apart(runtime: Arc<dyn Runtime>) {
    let spec = Spec::new(probe())
        .with_mount("/one", Mount::Memory)
        .with_mount("/two", Mount::Memory);
    let sandbox = launch(&runtime, spec).await;
    sandbox
        .files()
        .write("/one/a", b"a".to_vec())
        .await
        .expect("write");
    // 75 is "cross-device link".
    assert_eq!(line(&sandbox, &["cross-mount"]).await, "75");
    assert_eq!(line(&sandbox, &["read", "/one/a"]).await, "a");
    assert_eq!(line(&sandbox, &["mounts"]).await, "2");
}

/// A directory of the host is read and written through a mount.
pub async fn host_directory_is_mounted(runtime: Arc<dyn Runtime>) {
    let dir = TempDir::new();
    std::fs::write(dir.path("in"), "from disk").expect("write");
    let mount = Mount::host_directory(dir.root(), Access::ReadWrite);
    let limits = Limits::new()
        .with_storage_bytes_max(1_000, 1_000)
        .with_files_max(2);
    let spec = Spec::new(probe())
        .with_mount("/d", mount)
        .with_limits(limits);
    let sandbox = launch(&runtime, spec).await;
    assert_eq!(line(&sandbox, &["read", "/d/in"]).await, "from disk");
    assert_eq!(
        line(&sandbox, &["write", "/d/out", "to disk"]).await,
        "written"
    );
    assert_eq!(
        std::fs::read_to_string(dir.path("out")).expect("read"),
        "to disk"
    );
    assert_eq!(
        sandbox.files().read("/d/out", MIB).await.expect("read"),
        b"to disk"
    );
    assert_eq!(
        line(&sandbox, &["grow", "/d/out", "1"]).await,
        "errno 51 after 0"
    );
    assert_eq!(
        line(&sandbox, &["many-files", "/d", "9"]).await,
        "errno 51 after 1"
    );
}

/// A read-only mount of a host's directory cannot be changed.
pub async fn host_directory_can_be_read_only(runtime: Arc<dyn Runtime>) {
    let dir = TempDir::new();
    std::fs::write(dir.path("in"), "from disk").expect("write");
    let mount = Mount::host_directory(dir.root(), Access::ReadOnly);
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/d", mount)).await;
    assert_eq!(line(&sandbox, &["read", "/d/in"]).await, "from disk");
    assert_eq!(line(&sandbox, &["write", "/d/in", "x"]).await, "errno 69");
    assert_eq!(line(&sandbox, &["write", "/d/out", "x"]).await, "errno 69");
    assert_eq!(line(&sandbox, &["remove", "/d/in"]).await, "errno 69");
    let refused = sandbox.files().remove("/d/in").await.expect_err("denied");
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(
        std::fs::read_to_string(dir.path("in")).expect("read"),
        "from disk"
    );
}

/// Mounts that make no sense are refused at launch.
pub async fn bad_mounts_are_refused(runtime: Arc<dyn Runtime>) {
    for path in ["", "relative", "/a/../b", "/a//b", "/nul\0", "/./a"] {
        let spec = Spec::new(probe()).with_mount(path, Mount::Memory);
        let refused = runtime.launch(&scope(), spec).await.expect_err(path);
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{path:?}");
    }
    let twice = Spec::new(probe())
        .with_mount("/a", Mount::Memory)
        .with_mount("/a/", Mount::Memory);
    let refused = runtime.launch(&scope(), twice).await.expect_err("twice");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let dir = TempDir::new();
    let mount = Mount::host_directory(dir.path("missing"), Access::ReadOnly);
    let spec = Spec::new(probe()).with_mount("/d", mount);
    let refused = runtime.launch(&scope(), spec).await.expect_err("missing");
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

/// Room comes back when files are removed.
pub async fn removed_files_give_room_back(runtime: Arc<dyn Runtime>) {
    let limits = Limits::new()
        .with_storage_bytes_max(100, 100)
        .with_files_max(1);
    let spec = Spec::new(probe())
        .with_mount("/", Mount::Memory)
        .with_limits(limits);
    let sandbox = launch(&runtime, spec).await;
    let files = sandbox.files();
    for _ in 0..3 {
        files.write("/f", vec![0; 100]).await.expect("write");
        assert_eq!(sandbox.metrics().storage_bytes, 100);
        files.remove("/f").await.expect("remove");
        assert_eq!(
            (sandbox.metrics().storage_bytes, sandbox.metrics().files),
            (0, 0)
        );
    }
}

/// The files go with the sandbox, also for a handle that was taken before.
pub async fn closed_sandbox_has_no_files(runtime: Arc<dyn Runtime>) {
    let sandbox = launch(&runtime, Spec::new(probe()).with_mount("/", Mount::Memory)).await;
    let files = sandbox.files();
    files.write("/f", b"x".to_vec()).await.expect("write");
    sandbox.close().await.expect("close");
    let refused = files.read("/f", MIB).await.expect_err("closed");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

/// A directory of the host that is removed at the end of a law.
#[derive(Debug)]
pub(super) struct TempDir(std::path::PathBuf);

impl TempDir {
    /// Makes an empty directory with a name nobody else has.
    pub(super) fn new() -> Self {
        let name = format!(
            "agent-sandbox-{:016x}",
            agent_core::EntropyExt::next_u64(&agent_core::OsEntropy::new())
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    pub(super) fn root(&self) -> &std::path::Path {
        &self.0
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A directory that is left behind is litter, not a failed law.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
