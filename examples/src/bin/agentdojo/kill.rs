//! The same with the whole process: killed at random moments until the work is done.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{EntropyExt, SeededEntropy};
use anyhow::{Context, Result, bail};

use crate::agents::{Point, Points};
use crate::run::{self, Ended};
use crate::trace::Traces;
use crate::world::World;

/// So many kills mean that no progress is made between them.
const KILLS_MAX: u64 = 2_000;
/// How many points a child passes at most before it is killed, for each task: agents work side by
/// side, so that after one point each nothing need be recorded yet.
const POINTS_MAX: usize = 4;

/// A run that was killed until it was done.
#[derive(Debug)]
pub(crate) struct Killed {
    pub(crate) ended: Ended,
    pub(crate) world: World,
    pub(crate) n_kills: u64,
}

/// Says every point that is passed, so that whoever listens can kill at any of them.
#[derive(Debug)]
struct Says;

impl Points for Says {
    fn pass(&self, task: &str, call: usize, point: Point) {
        println!("{task} {call} {point:?}");
    }
}

/// Does the work, or the rest of it, in a directory, and prints how it ended.
pub(crate) async fn child(dir: &Path, traces: Arc<Traces>) -> Result<()> {
    let world = Arc::new(World::open(&dir.join("world.jsonl"))?);
    let ended = run::run(&dir.join("data"), traces, world, Arc::new(Says)).await?;
    println!("{}", serde_json::to_string(&ended)?);
    Ok(())
}

/// Runs children and kills each after a random number of points and a random moment more.
pub(crate) fn until_done(file: &Path, traces: &Traces, seed: u64) -> Result<Killed> {
    let dir = tempfile::tempdir()?;
    let entropy = SeededEntropy::new(seed);
    let spread = u64::try_from(POINTS_MAX * traces.tasks.len())?;
    for n_kills in 0..KILLS_MAX {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(file)
            .arg("--child")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a child")?;
        let lives = 1 + entropy.next_u64() % spread;
        let more = Duration::from_micros(entropy.next_u64() % 2_000);
        if let Some(ended) = watch(&mut child, lives, more)? {
            let world = World::open(&dir.path().join("world.jsonl"))?;
            return Ok(Killed {
                ended,
                world,
                n_kills,
            });
        }
    }
    let kept = dir.keep();
    bail!(
        "{KILLS_MAX} kills and no end; the data is in {}",
        kept.display()
    );
}

/// Kills a child at its moment. Returns how it ended if it ended before.
fn watch(child: &mut Child, lives: u64, more: Duration) -> Result<Option<Ended>> {
    let stdout = child.stdout.take().context("the child has no output")?;
    let mut last = String::new();
    let mut n_seen = 0;
    for line in BufReader::new(stdout).lines() {
        last = line?;
        n_seen += 1;
        if n_seen == lives {
            #[expect(
                clippy::disallowed_methods,
                reason = "a killer of processes waits in real time"
            )]
            std::thread::sleep(more);
            child.kill()?;
        }
    }
    if child.wait()?.success() {
        let ended = serde_json::from_str(&last).context("the child did not say how it ended")?;
        return Ok(Some(ended));
    }
    if n_seen >= lives {
        return Ok(None);
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    bail!("a child failed on its own: {}", said.trim());
}
