//! How well curation keeps beliefs on generated timelines: facts that change, are contradicted,
//! retracted, repeated, told late and erased.
//!
//! ```text
//! cargo run --release -p examples --bin curation [-- --json]
//! ```
//!
//! The same timelines are told as typed claims, where only the decisions are judged, and in words,
//! where the extractor without a model is: plainly, freely in words its rules were widened on, and
//! freely in words that no rule was made or changed after.

#![expect(clippy::print_stdout, reason = "a program prints its result")]

use agent_memory::timelines::{Score, Style, Told, rules, score};
use anyhow::Result;
use clap::Parser;
use serde_json::json;

/// Scores curation on generated timelines.
#[derive(Debug, Parser)]
#[command(name = "curation")]
struct Cli {
    /// Prints one JSON object per line.
    #[arg(long)]
    json: bool,
    /// How many timelines are generated.
    #[arg(long, default_value_t = 480)]
    timelines: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let n = cli.timelines;
    let told = [
        ("typed", Told::Typed, None),
        ("plain", Told::InWords, Some(Style::Plain)),
        ("varied", Told::InWords, Some(Style::Varied)),
        ("unseen", Told::InWords, Some(Style::Unseen)),
    ];
    for (name, told, style) in told {
        let found = score(n, told, style, rules()).await?;
        if cli.json {
            print_json(name, &found)?;
        } else {
            print(name, &found);
        }
    }
    Ok(())
}

fn print(name: &str, score: &Score) {
    println!(
        "{name:>6}: precision@1 {:.3}, recall {:.3}, stale {:.3}, as of {:.3}, duplicates {}; \
         {} timelines, {} statements, {} moments",
        score.precision(),
        score.recall(),
        score.stale(),
        score.as_of(),
        score.n_duplicates,
        score.n_timelines,
        score.n_statements,
        score.n_moments,
    );
}

fn print_json(name: &str, score: &Score) -> Result<()> {
    let line = |bench: &str, value: f64, unit: &str| {
        let line = json!({
            "bench": format!("curation/{bench}/{name}"), "value": value, "unit": unit,
            "baseline": 0.0, "ratio": 0.0,
        });
        println!("{}", serde_json::to_string(&line)?);
        Ok::<(), anyhow::Error>(())
    };
    line("precision@1", score.precision(), "share")?;
    line("recall", score.recall(), "share")?;
    line("stale", score.stale(), "share")?;
    line("as_of", score.as_of(), "share")?;
    let n_duplicates = u32::try_from(score.n_duplicates)?;
    line("duplicates", f64::from(n_duplicates), "records")
}
