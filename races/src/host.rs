//! The machine and the scratch files of a run.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, Env};
use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::measure::Samples;

/// The versions of the peers, as the manifest pins them.
const PEERS: &str = "duroxide 0.1.32, durare 0.5.0, ractor 0.16.5, kameo 0.22.2 (tokio, release)";

/// What every race needs. The scratch directory goes with it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) env: Env,
    /// How often each contestant has its turn.
    pub(crate) n_rounds: u32,
    /// The median of a small write that reaches the disk, in this run.
    pub(crate) fsync_ms: f64,
    scratch: TempDir,
}

impl Host {
    /// Makes the scratch directory, in the system's temporary directory unless told where.
    pub(crate) fn new(dir: Option<PathBuf>, n_rounds: u32) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("agent-races-");
        let scratch = match dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        let mut host = Self {
            env: Env::system(),
            n_rounds,
            fsync_ms: 0.0,
            scratch: scratch.context("cannot make a scratch directory")?,
        };
        host.fsync_ms = host.fsync()?;
        Ok(host)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.env.clock)
    }

    /// Returns the monotonic time.
    pub(crate) fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Returns the time since `start`.
    pub(crate) fn since(&self, start: Duration) -> Duration {
        self.now().saturating_sub(start)
    }

    /// Makes a directory of its own for one round.
    pub(crate) fn directory(&self) -> Result<TempDir> {
        TempDir::new_in(self.scratch.path()).context("cannot make a directory for a round")
    }

    /// Describes the machine, for whoever compares numbers.
    pub(crate) fn environment(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let profile = if cfg!(debug_assertions) {
            "debug build: compare nothing, use --release"
        } else {
            "release"
        };
        format!(
            "environment  {cores} cores, {}, {}, Linux {}, load {}, {profile}, {}\n\
             contestants  agent-orch {}, {PEERS}\n\
             sqlite       {} for all, ours and theirs\n\
             disk         write of 4 KiB and fsync: p50 {:.2} ms, measured in this run\n\
             rounds       median of {}, all contestants taking turns, each on a fresh database\n\
             ratio        above 1 = better than the baseline",
            field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
            std::env::consts::ARCH,
            first("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            first("/proc/loadavg").unwrap_or_else(|| "unknown".to_owned()),
            rustc(),
            env!("CARGO_PKG_VERSION"),
            rusqlite::version(),
            self.fsync_ms,
            self.n_rounds,
        )
    }

    fn fsync(&self) -> Result<f64> {
        const N: usize = 100;
        let mut file = File::create(self.scratch.path().join("fsync"))?;
        let mut times = Vec::with_capacity(N);
        for _ in 0..N {
            let start = self.now();
            file.write_all(&[0x5a; 4_096])?;
            file.sync_data()?;
            times.push(self.since(start));
        }
        let mut samples = Samples::default();
        samples.extend(&times, 1e3);
        Ok(samples.median())
    }
}

/// Returns the first word of a file of the kernel.
fn first(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

/// Returns the value of the first line `name : value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':')
        .map(|(_, value)| value.trim().to_owned())
}

/// Returns the version of the compiler in the path, which is the one `cargo run` used.
fn rustc() -> String {
    let output = std::process::Command::new("rustc").arg("-V").output();
    output.ok().map_or_else(
        || "rustc unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
