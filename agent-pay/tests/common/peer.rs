//! Programs of others that a test talks with. One that hangs fails its test and is ended.

#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "shared by tests that each use a part of it; peers are named by the environment"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

/// How long a program may say nothing: Python on a machine with other work takes ten seconds to start.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(90);

/// A program that ends with the test.
pub(crate) struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Locked, since a receiver is of one thread.
    lines: Mutex<Receiver<String>>,
    script: String,
    silence_max: Duration,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Peer {
    /// What it says next; nothing once it ended.
    pub(crate) fn line(&self) -> String {
        let said = self.lines.lock().recv_timeout(self.silence_max);
        let is_hung = said == Err(RecvTimeoutError::Timeout);
        assert!(
            !is_hung,
            "{} said nothing for {:?}",
            self.script, self.silence_max
        );
        said.unwrap_or_default()
    }

    /// Sets how long it may say nothing. Default: [`SILENCE_MAX`].
    pub(crate) fn with_silence_max(mut self, silence_max: Duration) -> Self {
        self.silence_max = silence_max;
        self
    }

    /// The address of a server that says its port first.
    pub(crate) fn base(&self) -> String {
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
        let (told, lines) = sync_channel(64);
        // It ends with the program, which `Drop` ends.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            lines: Mutex::new(lines),
            script: script.to_owned(),
            silence_max: SILENCE_MAX,
        }
    }
}

/// Runs a program to its end and returns what it said; one that failed, or does not end in time, fails
/// the test with what it complained about.
pub(crate) fn output(command: &mut Command, lasts_max: Duration) -> Vec<u8> {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (told, read) = sync_channel(2);
    let complained = std::thread::spawn(move || {
        let mut text = String::new();
        let _read = stderr.read_to_string(&mut text);
        text
    });
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _read = stdout.read_to_end(&mut bytes);
        told.send(bytes)
    });
    let said = read.recv_timeout(lasts_max);
    if said.is_err() {
        child.kill().unwrap();
    }
    let is_good = child.wait().unwrap().success();
    let complained = complained.join().unwrap();
    assert!(said.is_ok(), "{command:?} did not end: {complained}");
    assert!(is_good, "{command:?} failed: {complained}");
    said.unwrap()
}
