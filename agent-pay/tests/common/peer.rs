//! Programs of others that a test talks with.

#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "shared by tests that each use a part of it; peers are named by the environment"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A program that ends with the test.
pub(crate) struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Peer {
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// The address of a server that says its port first.
    pub(crate) fn base(&mut self) -> String {
        let line = self.line();
        let port = line.trim().strip_prefix("PORT ").unwrap();
        format!("http://127.0.0.1:{port}")
    }

    pub(crate) fn ask(&mut self, line: &Value) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        serde_json::from_str(&self.line()).unwrap()
    }
}

/// The folder a variable names, where peers are installed: `python` by `pip install --target`,
/// `node` by `npm install --prefix`.
pub(crate) fn folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var(variable).ok();
    if folder.is_none() {
        println!("SKIPPED peers: {variable} names no folder");
    }
    folder.map(PathBuf::from)
}

impl Peer {
    /// Starts a script of `tests/peers`.
    pub(crate) fn start(folder: &Path, program: &str, script: &str) -> Self {
        Self::start_with(folder, program, script, &[])
    }

    /// Starts a script of `tests/peers` with arguments.
    pub(crate) fn start_with(folder: &Path, program: &str, script: &str, args: &[&str]) -> Self {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(program)
            .arg(here.join("tests/peers").join(script))
            .args(args)
            .env("PYTHONPATH", folder.join("python"))
            .env("NODE_PATH", folder.join("node/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let lines = BufReader::new(stdout);
        Self {
            child,
            stdin,
            lines,
        }
    }
}
