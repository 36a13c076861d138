//! The machine and the scratch files of a run.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db, Durability};
use agent_core::{Clock, Env};
use anyhow::{Context, Result};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::measure::{Samples, Unit};

/// How often the measure and its baseline take turns: enough for a median that one hiccup does
/// not move.
pub(crate) const ROUNDS: u32 = 9;
/// How long one round of either lasts.
pub(crate) const ROUND: Duration = Duration::from_millis(150);

/// What every area needs. The scratch directory goes with it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) env: Env,
    scratch: TempDir,
}

impl Bench {
    /// Makes the scratch directory, in the system's temporary directory unless told where.
    pub(crate) fn new(dir: Option<&Path>) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("agent-bench-");
        let scratch = match dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        Ok(Self {
            env: Env::system(),
            scratch: scratch.context("cannot make a scratch directory")?,
        })
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

    /// Names a scratch file.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Opens a store that survives power loss.
    pub(crate) async fn db(&self, name: &str) -> Result<Db> {
        let config = Config::new(self.file(name)).with_durability(Durability::PowerLoss);
        Ok(Db::open(config, &self.env).await?)
    }

    /// Opens a plain connection of the same durability with the tables of a baseline.
    pub(crate) fn plain(&self, name: &str, tables: &str) -> Result<Connection> {
        let plain = Connection::open(self.file(name))?;
        plain.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")?;
        plain.execute_batch(tables)?;
        Ok(plain)
    }

    /// Describes the machine, for whoever compares numbers.
    pub(crate) fn environment(&self) -> Result<String> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let fsync = self.fsync()?;
        let profile = if cfg!(debug_assertions) {
            "debug build: compare nothing, use --release"
        } else {
            "release"
        };
        Ok(format!(
            "environment  {cores} cores, {} {}, load {}, {profile}, rust >= {}\n\
             durability   power_loss on both sides: WAL, synchronous=FULL, SQLite {}\n\
             disk         write of 4 KiB and fsync: p50 {fsync:.2} ms, measured in this run\n\
             rounds       median of {ROUNDS}, the measure and its baseline taking turns\n\
             ratio        above 1 = better than the baseline",
            std::env::consts::ARCH,
            read_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown kernel".to_owned()),
            read_line("/proc/loadavg").unwrap_or_else(|| "unknown".to_owned()),
            env!("CARGO_PKG_RUST_VERSION"),
            rusqlite::version(),
        ))
    }

    /// Returns the median milliseconds of a small write that reaches the disk.
    fn fsync(&self) -> Result<f64> {
        const N: usize = 50;
        let mut file = File::create(self.file("fsync"))?;
        let mut samples = Samples::default();
        for _ in 0..N {
            let start = self.now();
            file.write_all(&[0x5a; 4_096])?;
            file.sync_data()?;
            samples.push(Unit::Millis.of(self.since(start)));
        }
        Ok(samples.median())
    }
}

/// Returns the first line of a file of the kernel, its first field where it has many.
fn read_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}
