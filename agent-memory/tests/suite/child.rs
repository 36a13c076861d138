//! Tests of this program that run as its child, so that they can be killed: ignored ones, which find
//! in the environment where they are to work.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DIRECTORY: &str = "AGENT_MEMORY_TEST_DIRECTORY";

/// What runs an ignored test, named with its modules, in a directory; its output is piped.
pub(crate) fn command(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped());
    command
}

/// Where this process is to work.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os(DIRECTORY).unwrap())
}
