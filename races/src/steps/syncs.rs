//! How often a step reaches the disk: a child process takes steps and `strace` counts.

use std::process::Stdio;

use agent_core::store::Durability;
use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::task::JoinSet;

use super::{Contestant, STEPS, name};
use crate::host::Host;

/// Workflows an agent runs in the two children: what opening and closing sync is in both, and the
/// difference is that of the steps.
const WORKFLOWS: [u32; 2] = [2, 6];

/// Counts the `fsync` and `fdatasync` calls per step. Without `strace` there is no number; and
/// where the steps are slow, one agent says as much as fifty.
pub(super) async fn per_step(
    host: &Host,
    contestant: Contestant,
    durability: Durability,
    n_agents: u32,
) -> Result<Option<f64>> {
    let mut counts = [0.0; 2];
    for (count, n_workflows) in counts.iter_mut().zip(WORKFLOWS) {
        let Some(counted) =
            count_syncs(host, contestant, durability, n_agents, n_workflows).await?
        else {
            return Ok(None);
        };
        *count = f64::from(counted);
    }
    let [few, many] = counts;
    let n_workflows = WORKFLOWS.iter().copied().reduce(|few, many| many - few);
    let n_steps = n_workflows.unwrap_or_default() * n_agents * STEPS;
    Ok(Some((many - few).max(0.0) / f64::from(n_steps)))
}

async fn count_syncs(
    host: &Host,
    contestant: Contestant,
    durability: Durability,
    n_agents: u32,
    n_workflows: u32,
) -> Result<Option<u32>> {
    let dir = host.directory()?;
    let counts = dir.path().join("strace");
    let child = Command::new("strace")
        .args([
            "-f",
            "-c",
            "--seccomp-bpf",
            "-e",
            "trace=fsync,fdatasync",
            "-o",
        ])
        .arg(&counts)
        .arg(std::env::current_exe()?)
        .args(["solo-steps", &contestant.to_string(), name(durability)])
        .args([n_agents.to_string(), n_workflows.to_string()])
        .arg("--dir")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .await;
    let output = match child {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot run strace"),
    };
    ensure!(
        output.status.success(),
        "the traced child failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&counts)?;
    // A line of the summary: time, seconds, us per call, calls, errors if any, name.
    let calls = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_sync = matches!(fields.last(), Some(&"fsync" | &"fdatasync"));
        fields.get(3).filter(|_| is_sync)?.parse::<u32>().ok()
    });
    Ok(Some(calls.sum()))
}

/// Runs a contestant alone, for whoever traces the process.
pub(crate) async fn solo(
    host: &Host,
    contestant: &str,
    durability: &str,
    n_agents: u32,
    n_workflows: u32,
) -> Result<()> {
    let contestant = Contestant::ALL
        .into_iter()
        .find(|known| known.to_string() == contestant)
        .context("no such contestant")?;
    let durability = match durability {
        "power_loss" => Durability::PowerLoss,
        "process_kill" => Durability::ProcessKill,
        _ => bail!("no such durability"),
    };
    let dir = host.directory()?;
    let engine = contestant
        .open(host, dir.path(), durability, n_agents)
        .await?;
    let mut running = JoinSet::new();
    for agent in 0..n_agents {
        let engine = std::sync::Arc::clone(&engine);
        running.spawn(async move {
            for n in 0..n_workflows {
                engine.workflow(agent, n).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(agent) = running.join_next().await {
        agent??;
    }
    engine.close().await
}
