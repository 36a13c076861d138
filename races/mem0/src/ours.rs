//! Our side: SQLite at the default durability, embedding and indexes inside the timings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Config, Db};
use agent_core::{Env, Principal, Scope};
use agent_memory::backend::{Sqlite, sqlite};
use agent_memory::{Draft, MemoryStore, MemoryStoreExt, Namespace, Query, StaticEmbedder};
use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::corpus::{Corpus, LIMIT};
use crate::mem0::Lap;

/// How many callers there are at once in the second way of adding.
const CALLERS: usize = 50;

pub(crate) async fn run(
    dir: &Path,
    corpus: &Corpus,
    embedder: Arc<StaticEmbedder>,
) -> Result<Vec<Lap>> {
    let side = Side {
        env: Env::system(),
        embedder,
        scope: Scope::new(Principal::host()),
    };
    let (alone, mut laps) = side.add_alone(&dir.join("alone.db"), corpus).await?;
    laps.push(side.add_at_once(&dir.join("at_once.db"), corpus).await?);
    laps.push(side.add_in_batches(&dir.join("batches.db"), corpus).await?);
    laps.push(side.search(&alone, corpus).await?);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = kib.and_then(|line| line.split_whitespace().next());
    laps.push(Lap {
        what: "resident_mib".to_owned(),
        n: kib
            .context("the kernel names no resident memory")?
            .parse::<usize>()?
            / 1_024,
        per_s: 0.0,
        p50_ms: 0.0,
        p95_ms: 0.0,
        hits: None,
    });
    Ok(laps)
}

struct Side {
    env: Env,
    embedder: Arc<StaticEmbedder>,
    scope: Scope,
}

impl Side {
    async fn open(&self, path: &Path) -> Result<Sqlite> {
        let db = Db::open(Config::new(path), &self.env).await?;
        let embedder = Arc::<StaticEmbedder>::clone(&self.embedder);
        Ok(Sqlite::open(db, self.env.clone(), embedder, sqlite::Config::new()).await?)
    }

    fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// One memory a call, each durable before the next: what Mem0's side does.
    async fn add_alone(&self, path: &Path, corpus: &Corpus) -> Result<(Sqlite, Vec<Lap>)> {
        let store = self.open(path).await?;
        let (begin, mut laps) = (self.now(), Vec::new());
        for (user, text) in &corpus.texts {
            let start = self.now();
            let draft = Draft::event(text.as_str());
            store
                .add_one(&self.scope, Namespace::new(user)?, draft)
                .await?;
            laps.push(self.now().saturating_sub(start));
        }
        let took = self.now().saturating_sub(begin);
        Ok((store, vec![lap("add, one caller", laps, took, None)?]))
    }

    /// One memory a call from many callers, whose commits share the disk.
    async fn add_at_once(&self, path: &Path, corpus: &Corpus) -> Result<Lap> {
        let store = self.open(path).await?;
        let texts = Arc::new(corpus.texts.clone());
        let begin = self.now();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (store, texts) = (store.clone(), Arc::clone(&texts));
            let (scope, clock) = (self.scope.clone(), Arc::clone(&self.env.clock));
            callers.spawn(async move {
                let mut laps = Vec::new();
                for (user, text) in texts.iter().skip(caller).step_by(CALLERS) {
                    let start = clock.monotonic();
                    let draft = Draft::event(text.as_str());
                    store.add_one(&scope, Namespace::new(user)?, draft).await?;
                    laps.push(clock.monotonic().saturating_sub(start));
                }
                anyhow::Ok(laps)
            });
        }
        let mut laps = Vec::new();
        for of_caller in callers.join_all().await {
            laps.extend(of_caller?);
        }
        let took = self.now().saturating_sub(begin);
        lap(&format!("add, {CALLERS} callers"), laps, took, None)
    }

    /// Whole batches, as an import does.
    async fn add_in_batches(&self, path: &Path, corpus: &Corpus) -> Result<Lap> {
        let store = self.open(path).await?;
        let mut by_user: Vec<(&str, Vec<Draft>)> = Vec::new();
        for (user, text) in &corpus.texts {
            let place = by_user
                .iter()
                .position(|(other, _)| *other == user.as_str());
            let draft = Draft::event(text.as_str());
            match place.and_then(|place| by_user.get_mut(place)) {
                Some((_, drafts)) => drafts.push(draft),
                None => by_user.push((user, vec![draft])),
            }
        }
        let begin = self.now();
        let mut laps = Vec::new();
        for (user, drafts) in by_user {
            for batch in drafts.chunks(Draft::BATCH_MAX) {
                let start = self.now();
                let at = Namespace::new(user)?;
                store.add(&self.scope, at, batch.to_vec()).await?;
                laps.push(self.now().saturating_sub(start));
            }
        }
        let took = self.now().saturating_sub(begin);
        let mut lap = lap("add, in batches", laps, took, None)?;
        lap.n = corpus.texts.len();
        lap.per_s = rate(lap.n, took)?;
        Ok(lap)
    }

    async fn search(&self, store: &Sqlite, corpus: &Corpus) -> Result<Lap> {
        let (begin, mut laps, mut n_found) = (self.now(), Vec::new(), 0);
        for (user, text) in &corpus.questions {
            let start = self.now();
            let query = Query::new(Namespace::new(user)?, text.as_str()).with_limit(LIMIT);
            n_found += store.search(&self.scope, query).await?.len();
            laps.push(self.now().saturating_sub(start));
        }
        let took = self.now().saturating_sub(begin);
        lap("search", laps, took, Some(n_found))
    }
}

fn rate(n: usize, took: Duration) -> Result<f64> {
    Ok(f64::from(u32::try_from(n)?) / took.as_secs_f64())
}

fn lap(what: &str, mut laps: Vec<Duration>, took: Duration, hits: Option<usize>) -> Result<Lap> {
    laps.sort_unstable();
    let at = |percent: usize| -> Result<f64> {
        let lap = laps.get(laps.len() * percent / 100);
        Ok(lap.context("nothing was measured")?.as_secs_f64() * 1e3)
    };
    Ok(Lap {
        what: what.to_owned(),
        n: laps.len(),
        per_s: rate(laps.len(), took)?,
        p50_ms: at(50)?,
        p95_ms: at(95)?,
        hits,
    })
}
