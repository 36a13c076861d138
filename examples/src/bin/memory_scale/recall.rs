//! What share of the nearest vectors is found by codes, against a look at every vector.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::store::Db;
use agent_core::{Env, Scope};
use agent_memory::backend::{Sqlite, sqlite};
use agent_memory::{
    Filter, Hit, Listing, MemoryId, MemoryStore, Namespace, Query, Selection, StaticEmbedder,
    Weights,
};
use anyhow::{Result, ensure};

use crate::texts::text;
use crate::{Cli, HITS, happened, optimize};

/// How many of the nearest are asked for, to take the nearest of them by vector alone.
const NAMED: usize = 300;

pub(crate) async fn measure(
    cli: &Cli,
    env: &Env,
    store: &Sqlite,
    db: Db,
    scope: &Scope,
    at: &Namespace,
) -> Result<()> {
    let embedder = Arc::new(StaticEmbedder::new()?);
    let config = sqlite::Config::new().with_exact_max(usize::MAX);
    let exact = Sqlite::open(db, env.clone(), embedder, config).await?;
    let sides = Sides {
        codes: store,
        exact: &exact,
        scope,
        at,
    };
    sides.compare(cli, "").await?;
    if cli.erase {
        sides.erase().await?;
        sides.compare(cli, ", three in ten erased").await?;
        optimize(env, store, scope, at).await?;
        sides.compare(cli, ", optimized since").await?;
    }
    Ok(())
}

struct Sides<'a> {
    codes: &'a Sqlite,
    exact: &'a Sqlite,
    scope: &'a Scope,
    at: &'a Namespace,
}

impl Sides<'_> {
    async fn compare(&self, cli: &Cli, when: &str) -> Result<()> {
        let n = cli.records;
        let part = |hundredths: u64| {
            let from = n / 3;
            let to = from + n * hundredths / 100;
            Filter::new().occurred(Some(happened(from)), Some(happened(to)))
        };
        for (what, filter) in [
            ("of all", Filter::new()),
            ("of a third", part(33)),
            ("of one in a hundred", part(1)),
        ] {
            let (mut n_found, mut n_all) = (0_usize, 0_usize);
            for question in 0..cli.recall {
                // A text that is not in the store, and like some that are.
                let text = text(n * 10 + question);
                let wanted = self.nearest(self.exact, &text, &filter).await?;
                let found = self.nearest(self.codes, &text, &filter).await?;
                n_found += wanted.intersection(&found).count();
                n_all += wanted.len();
            }
            let permille = n_found * 1_000 / n_all.max(1);
            let (whole, part) = (permille / 1_000, permille % 1_000);
            println!("recall@{HITS} {what}{when}  {whole}.{part:03} of {n_all}");
        }
        Ok(())
    }

    /// The nearest by the vectors alone.
    async fn nearest(
        &self,
        store: &Sqlite,
        text: &str,
        filter: &Filter,
    ) -> Result<BTreeSet<MemoryId>> {
        let mut weights = Weights::default();
        (weights.keyword, weights.thread, weights.brevity) = (0.0, 0.0, 0.0);
        let query = Query::new(self.at.clone(), text)
            .with_weights(weights)
            .with_filter(filter.clone())
            .with_limit(NAMED);
        let mut hits = store.search(self.scope, query).await?;
        let order = |a: &Hit, b: &Hit| b.explanation.dense.total_cmp(&a.explanation.dense);
        hits.sort_by(order);
        ensure!(hits.len() > HITS, "a search found too little");
        Ok(hits.iter().take(HITS).map(|hit| hit.memory.id).collect())
    }

    /// Erases three in ten memories.
    async fn erase(&self) -> Result<()> {
        let mut after = None;
        let mut n_seen = 0_usize;
        loop {
            let page = Listing::new().with_limit(Listing::LIMIT_MAX);
            let page = match after {
                Some(after) => page.after(after),
                None => page,
            };
            let page = self.codes.list(self.scope, self.at.clone(), page).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            let numbered = (n_seen..).zip(&page);
            let ids = numbered
                .filter(|(n, _)| n % 10 < 3)
                .map(|(_, memory)| memory.id);
            let ids: Vec<MemoryId> = ids.collect();
            n_seen += page.len();
            for part in ids.chunks(Selection::IDS_MAX) {
                let what = Selection::Ids(part.to_vec());
                let at = self.at.clone();
                self.codes
                    .forget(self.scope, at, what, String::new())
                    .await?;
            }
        }
        Ok(())
    }
}
