//! Memory: adding and searching, against FTS5 alone and an exact scan alone.

use std::cmp::Reverse;
use std::sync::Arc;

use agent_core::{Embedder, Principal, Scope};
use agent_memory::backend::{Sqlite, sqlite};
use agent_memory::{Draft, MemoryStore, Namespace, Query, StaticEmbedder};
use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use tokio::sync::Mutex;

use crate::host::{Bench, ROUND, ROUNDS};
use crate::measure::{Measure, Samples, Unit};

/// What is searched: a busy agent's month.
const N: usize = 10_000;
const WORDS_PER_TEXT: usize = 20;
const WORDS_PER_QUERY: usize = 6;
const HITS: usize = 10;
const TABLES: &str = "CREATE VIRTUAL TABLE item USING fts5(body, tokenize = 'porter')";
const WORDS: &[&str] = &[
    "invoice",
    "harbour",
    "running",
    "doctor",
    "violin",
    "garden",
    "cousin",
    "holiday",
    "museum",
    "bicycle",
    "thunder",
    "recipe",
    "coffee",
    "hope",
    "train",
    "window",
    "paper",
    "signal",
    "engine",
    "market",
    "forest",
    "letter",
    "bridge",
    "computer",
    "flight",
    "sister",
    "the",
    "of",
    "and",
    "to",
    "with",
    "my",
    "was",
    "yesterday",
    "really",
    "visited",
    "bought",
    "painting",
];

/// Both sides with the same texts.
struct Sides {
    store: Sqlite,
    scope: Scope,
    at: Namespace,
    plain: Mutex<Connection>,
    embedder: Arc<StaticEmbedder>,
    vectors: Vec<Vec<f32>>,
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Measure>> {
    let embedder = Arc::new(StaticEmbedder::new()?);
    let shared: Arc<dyn Embedder> = Arc::<StaticEmbedder>::clone(&embedder);
    let db = bench.db("memory.db").await?;
    let config = sqlite::Config::new();
    let mut sides = Sides {
        store: Sqlite::open(db, bench.env.clone(), shared, config).await?,
        scope: Scope::new(Principal::host()),
        at: Namespace::new("bench")?,
        plain: Mutex::new(bench.plain("memory-plain.db", TABLES)?),
        embedder,
        vectors: Vec::new(),
    };
    let mut measures = fill(bench, &mut sides).await?;
    measures.extend(search(bench, &sides).await?);
    measures.insert(0, add(bench, &sides).await?);
    Ok(measures)
}

/// Adds all texts in batches, on both sides in turn.
async fn fill(bench: &Bench, sides: &mut Sides) -> Result<Vec<Measure>> {
    let (mut ours, mut baseline) = (Samples::default(), Samples::default());
    let texts: Vec<String> = (0..N).map(|n| text(n, WORDS_PER_TEXT)).collect();
    for batch in texts.chunks(Draft::BATCH_MAX) {
        let n_texts = u32::try_from(batch.len())?;
        let start = bench.now();
        insert_all(&*sides.plain.lock().await, batch)?;
        baseline.push_rate(n_texts, bench.since(start));
        let drafts = batch
            .iter()
            .map(|text| Draft::event(text.as_str()))
            .collect();
        let start = bench.now();
        sides
            .store
            .add(&sides.scope, sides.at.clone(), drafts)
            .await?;
        ours.push_rate(n_texts, bench.since(start));
        sides
            .vectors
            .extend(sides.embedder.embed(&sides.scope, batch).await?);
    }
    let name = format!("memory/add_batch@{}", Draft::BATCH_MAX);
    let (unit, environment) = (
        Unit::PerSecond("memories/s"),
        "power_loss, embedding included",
    );
    Ok(vec![Measure::of(name, unit, &ours, &baseline, environment)])
}

/// Adds one text per call, each durable before the next.
async fn add(bench: &Bench, sides: &Sides) -> Result<Measure> {
    let (mut ours, mut baseline) = (Samples::default(), Samples::default());
    let mut seed = N;
    for _ in 0..ROUNDS {
        let (start, mut n_done) = (bench.now(), 0);
        while bench.since(start) < ROUND {
            seed += 1;
            insert(&*sides.plain.lock().await, &text(seed, WORDS_PER_TEXT))?;
            n_done += 1;
        }
        baseline.push_rate(n_done, bench.since(start));
        let (start, mut n_done) = (bench.now(), 0);
        while bench.since(start) < ROUND {
            seed += 1;
            let draft = Draft::event(text(seed, WORDS_PER_TEXT));
            sides
                .store
                .add(&sides.scope, sides.at.clone(), vec![draft])
                .await?;
            n_done += 1;
        }
        ours.push_rate(n_done, bench.since(start));
    }
    let (unit, environment) = (
        Unit::PerSecond("memories/s"),
        "power_loss, embedding included",
    );
    Ok(Measure::of(
        "memory/add@1",
        unit,
        &ours,
        &baseline,
        environment,
    ))
}

/// Searches by words and meaning, against either alone.
async fn search(bench: &Bench, sides: &Sides) -> Result<Vec<Measure>> {
    // The first search loads the index; what it costs is not what a search costs.
    let warm = Query::new(sides.at.clone(), "harbour");
    sides.store.search(&sides.scope, warm).await?;
    let (mut ours, mut words, mut scans) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut slow = Samples::default();
    let mut seed = 0;
    for _ in 0..ROUNDS {
        let [mut round, mut word_round, mut scan_round] = [(); 3].map(|()| Samples::default());
        let begin = bench.now();
        // Every query is put to the three of them, one after another.
        while bench.since(begin) < 2 * ROUND {
            seed += 1;
            let text = text(seed * 7, WORDS_PER_QUERY);
            let start = bench.now();
            let found = match_words(&*sides.plain.lock().await, &text)?;
            word_round.push(Unit::Micros.of(bench.since(start)));
            let start = bench.now();
            let nearest = scan(sides, &text).await?;
            scan_round.push(Unit::Micros.of(bench.since(start)));
            let query = Query::new(sides.at.clone(), text).with_limit(HITS);
            let start = bench.now();
            let hits = sides.store.search(&sides.scope, query).await?;
            round.push(Unit::Micros.of(bench.since(start)));
            ensure!(
                found > 0 && nearest == HITS && hits.len() == HITS,
                "a search found too little"
            );
        }
        ours.push(round.median());
        slow.push(round.percentile(99));
        words.push(word_round.median());
        scans.push(scan_round.median());
    }
    let (unit, both) = (Unit::Micros, "p50, words and meaning");
    Ok(vec![
        Measure::of(format!("memory/search@{N}"), unit, &ours, &words, both),
        Measure::of(
            format!("memory/search_p99@{N}"),
            unit,
            &slow,
            &words,
            "p99, baseline p50",
        ),
        Measure::of(
            format!("memory/search_scan@{N}"),
            unit,
            &ours,
            &scans,
            "p50, baseline a scan",
        ),
    ])
}

fn insert(plain: &Connection, text: &str) -> Result<()> {
    plain
        .prepare_cached("INSERT INTO item (body) VALUES (?1)")?
        .execute([text])?;
    Ok(())
}

fn insert_all(plain: &Connection, texts: &[String]) -> Result<()> {
    let transaction = plain.unchecked_transaction()?;
    texts.iter().try_for_each(|text| insert(plain, text))?;
    Ok(transaction.commit()?)
}

/// Ranks by words with FTS5 alone and reads the best texts.
fn match_words(plain: &Connection, text: &str) -> Result<usize> {
    let query: Vec<String> = text.split(' ').map(|word| format!("\"{word}\"")).collect();
    let limit = i64::try_from(HITS)?;
    let mut select = plain.prepare_cached(
        "SELECT body, bm25(item) FROM item WHERE item MATCH ?1 ORDER BY rank LIMIT ?2",
    )?;
    let found = select
        .query_map((query.join(" OR "), limit), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.len())
}

/// Embeds the query, compares it with every vector and keeps the nearest.
async fn scan(sides: &Sides, text: &str) -> Result<usize> {
    let texts = [text.to_owned()];
    let wanted = sides.embedder.embed(&sides.scope, &texts).await?;
    let wanted = wanted.first().context("the embedder gave no vector")?;
    let mut scored: Vec<(Reverse<i64>, usize)> = Vec::with_capacity(sides.vectors.len());
    for (n, vector) in sides.vectors.iter().enumerate() {
        let product: f32 = vector.iter().zip(wanted).map(|(a, b)| a * b).sum();
        // Whole numbers order totally; a millionth is finer than the model is.
        scored.push((Reverse(millionths(product)), n));
    }
    let nth = HITS.min(scored.len().saturating_sub(1));
    scored.select_nth_unstable(nth);
    scored.truncate(HITS);
    Ok(scored.len())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a product of unit vectors is at most 1"
)]
fn millionths(product: f32) -> i64 {
    (product * 1e6) as i64
}

/// Makes up a text that is the same in every run.
fn text(n: usize, n_words: usize) -> String {
    let mut x = n.wrapping_mul(0x9e37_79b9).wrapping_add(77);
    let word = |_| {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Every third word is one of many, as names and numbers are.
        if (x >> 60).is_multiple_of(3) {
            format!("w{}", (x >> 33) % 20_000)
        } else {
            WORDS
                .get((x >> 33) % WORDS.len())
                .copied()
                .unwrap_or("a")
                .to_owned()
        }
    };
    (0..n_words).map(word).collect::<Vec<_>>().join(" ")
}
