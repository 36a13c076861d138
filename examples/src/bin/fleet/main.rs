//! The main job: a supervised fleet keeps a git repository tidy.
//!
//! It works on a clone in the data directory, never on the repository itself. Forty agents run the
//! check program in sandboxes and propose signed changes, ten others verify them, and a merge queue
//! lands what was verified on the branch `agents/hygiene` of the clone. Kill it at any moment and
//! run the same command: it goes on where it was.

mod agents;
mod ages;
mod ask;
mod findings;
mod guest;
mod html;
mod landing;
mod plan;
mod show;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

use agent_core::Classify;
use agent_orch::Fleet;
use anyhow::{Context, Result};
use clap::Parser;

/// Sends a supervised fleet of agents through a git repository to keep it tidy.
#[derive(Clone, Debug, Parser)]
#[command(name = "fleet", version)]
pub(crate) struct Args {
    /// The repository; the fleet works on a clone of its HEAD.
    #[arg(long, default_value = ".")]
    pub(crate) repo: PathBuf,
    /// How many agents mend and verify, 2 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) agents: u32,
    /// Where everything is kept: clone, journal, ledger, keys.
    #[arg(long, default_value = "agent-data")]
    pub(crate) data: PathBuf,
    /// The share of effects that meet an injected fault, 0 to 0.5.
    #[arg(long, default_value = "0", value_parser = share)]
    pub(crate) chaos: u32,
    /// Let the configured default answer the questions that would go to a person.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Where the HTML report goes. Default: report.html in the data directory.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
    /// A manifest to use instead of the built-in one.
    #[arg(long)]
    pub(crate) fleet: Option<PathBuf>,
}

/// The manifest used unless another is named.
const MANIFEST: &str = include_str!("fleet.toml");

/// Reads a decimal share as parts of a million.
fn share(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a number from 0 to 0.5, such as 0.03");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole != "0" || part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let millionths: u32 = format!("{part:0<6}").parse().map_err(|_digits| wrong())?;
    if millionths > 500_000 {
        Err(wrong())
    } else {
        Ok(millionths)
    }
}

impl Args {
    /// Reads the manifest and divides the agents: one verifier for four menders.
    pub(crate) fn manifest(&self) -> Result<Fleet> {
        let text = match &self.fleet {
            None => MANIFEST.to_owned(),
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the manifest {}", path.display()))?,
        };
        let mut fleet = Fleet::from_toml(&text)?;
        if self.fleet.is_none() {
            let verifiers = (self.agents / 5).max(1);
            for (name, pool) in &mut fleet.pools {
                pool.size = if name == "verifiers" {
                    verifiers
                } else {
                    self.agents - verifiers
                };
            }
        }
        Ok(fleet)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match start::run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says what went wrong, once, and what to do about it.
#[expect(clippy::print_stderr, reason = "a program talks to its user")]
fn complain(error: &anyhow::Error) {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = if said.is_empty() {
                text
            } else {
                format!("{said}: {text}")
            };
        }
    }
    eprintln!("error: {said}");
    if let Some(fix) = error.chain().find_map(fix_of) {
        eprintln!("what to do: {fix}");
    }
}

fn fix_of(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    let orch = cause
        .downcast_ref::<agent_orch::Error>()
        .map(|e| e.fix().into_owned());
    let merge = || {
        cause
            .downcast_ref::<agent_orch::merge::Error>()
            .map(|e| e.fix().into_owned())
    };
    let store = || {
        cause
            .downcast_ref::<agent_core::store::Error>()
            .map(|e| e.fix().into_owned())
    };
    orch.or_else(merge).or_else(store)
}
