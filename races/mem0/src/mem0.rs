//! Mem0's side: a child process that gets texts and vectors in files.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use agent_core::{Embedder, Principal, Scope};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::corpus::{Corpus, LIMIT};

/// What was measured of one kind of call.
#[derive(Debug, Deserialize)]
pub(crate) struct Lap {
    pub(crate) what: String,
    pub(crate) n: usize,
    #[serde(default)]
    pub(crate) per_s: f64,
    #[serde(default)]
    pub(crate) p50_ms: f64,
    #[serde(default)]
    pub(crate) p95_ms: f64,
    /// How many memories searches found in all.
    pub(crate) hits: Option<usize>,
}

impl fmt::Display for Lap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.n)?;
        if self.per_s > 0.0 {
            write!(f, ", {:.0}/s", self.per_s)?;
            write!(f, ", p50 {:.3} ms, p95 {:.3} ms", self.p50_ms, self.p95_ms)?;
        }
        self.hits.map_or(Ok(()), |n| write!(f, ", {n} hits"))
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mem0_side.py");

pub(crate) async fn run(
    python: &Path,
    dir: &Path,
    corpus: &Corpus,
    embedder: &dyn Embedder,
) -> Result<Vec<Lap>> {
    let all = corpus.texts.iter().chain(&corpus.questions);
    let all: Vec<String> = all.map(|(_, text)| text.clone()).collect();
    let scope = Scope::new(Principal::host());
    let mut vectors = BufWriter::new(File::create(dir.join("vectors.f32"))?);
    for texts in all.chunks(1_000) {
        for x in embedder.embed(&scope, texts).await?.into_iter().flatten() {
            vectors.write_all(&x.to_le_bytes())?;
        }
    }
    vectors.flush()?;
    let data = serde_json::json!({
        "texts": corpus.texts, "questions": corpus.questions, "limit": LIMIT,
    });
    std::fs::write(dir.join("texts.json"), data.to_string())?;
    let child = Command::new(python)
        .arg(SCRIPT)
        .arg(dir)
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = child.await.context("start Python")?;
    ensure!(
        output.status.success(),
        "Mem0's side failed: {}",
        output.status
    );
    let printed = String::from_utf8(output.stdout)?;
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}
