//! Budgets of a search, and rerankers that are good, late, wrong or broken.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{Clock, ErrorKind, Principal, Retry, Scope};
use agent_memory::backend::InMemory;
use agent_memory::conformance::Bench;
use agent_memory::{
    BytesPerToken, CountTokens, Draft, Hit, MemoryStore, MemoryStoreExt, Namespace, Order, Query,
    Recall, Recalled, Reranker,
};
use async_trait::async_trait;

#[derive(Debug)]
enum Scripted {
    ShortestFirst,
    AllAlike,
    TakesForever(Arc<dyn Clock>),
    Fails,
    TooFew,
    NotANumber,
}

#[async_trait]
impl Reranker for Scripted {
    async fn score(
        &self,
        _scope: &Scope,
        question: &str,
        hits: &[Hit],
    ) -> agent_core::Result<Vec<f32>> {
        assert_eq!(question, "crane");
        let by = |score: fn(&Hit) -> f32| hits.iter().map(score).collect();
        match self {
            Self::ShortestFirst => Ok(by(|hit| {
                -f32::from(u16::try_from(hit.memory.text.len()).unwrap())
            })),
            Self::AllAlike => Ok(by(|_| 1.0)),
            Self::TakesForever(clock) => {
                clock
                    .sleep_until(clock.now().after(Duration::from_secs(3_600)))
                    .await;
                Ok(by(|_| 0.0))
            }
            Self::Fails => Err(agent_core::Error::backend(
                "reranker",
                "score",
                ErrorKind::Unavailable,
                Retry::Safe,
                "away",
            )),
            Self::TooFew => Ok(Vec::new()),
            Self::NotANumber => Ok(by(|_| f32::NAN)),
        }
    }
}

struct Case {
    bench: Bench,
    store: InMemory,
    scope: Scope,
    at: Namespace,
}

impl Case {
    async fn new() -> Self {
        let bench = Bench::new();
        let store = InMemory::new(bench.env.clone(), Arc::clone(&bench.embedder));
        let (scope, at) = (
            Scope::new(Principal::host()),
            Namespace::new("home").unwrap(),
        );
        for n in 0..20 {
            let text = format!("the crane lifted {}", "beams ".repeat(20 - n));
            store
                .add_one(&scope, at.clone(), Draft::event(text))
                .await
                .unwrap();
        }
        Self {
            bench,
            store,
            scope,
            at,
        }
    }

    fn query(&self) -> Query {
        Query::new(self.at.clone(), "crane").with_limit(5)
    }

    async fn fused(&self) -> Vec<Hit> {
        self.store.search(&self.scope, self.query()).await.unwrap()
    }

    async fn run(&self, recall: Recall) -> Recalled {
        let call = recall.run(&self.store, &self.scope, &self.bench.env);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                recalled = &mut call => return recalled.unwrap(),
                () = tokio::task::yield_now() => self.bench.advance(Duration::from_millis(10)),
            }
        }
    }
}

const TIME: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_reranker_orders_more_than_is_returned() {
    let case = Case::new().await;
    let recall = Recall::new(case.query()).with_reranker(Arc::new(Scripted::ShortestFirst), TIME);
    let recalled = case.run(recall).await;
    assert!(matches!(recalled.order, Order::Reranked));
    let lengths: Vec<usize> = recalled
        .hits
        .iter()
        .map(|hit| hit.memory.text.len())
        .collect();
    let shortest = "the crane lifted ".len() + "beams ".len();
    let expected: Vec<usize> = (0..5).map(|n| shortest + n * "beams ".len()).collect();
    assert_eq!(lengths, expected);
    let recall = Recall::new(case.query()).with_reranker(Arc::new(Scripted::AllAlike), TIME);
    assert_eq!(case.run(recall).await.hits, case.fused().await);
}

#[tokio::test]
async fn a_late_or_broken_reranker_leaves_the_order_of_the_search() {
    let case = Case::new().await;
    let clock = Arc::clone(&case.bench.env.clock);
    for reranker in [
        Scripted::TakesForever(clock),
        Scripted::Fails,
        Scripted::TooFew,
        Scripted::NotANumber,
    ] {
        let is_late = matches!(reranker, Scripted::TakesForever(_));
        let recall = Recall::new(case.query()).with_reranker(Arc::new(reranker), TIME);
        let recalled = case.run(recall).await;
        assert_eq!(matches!(recalled.order, Order::Late), is_late);
        assert_eq!(matches!(recalled.order, Order::Failed(_)), !is_late);
        let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.memory.id).collect::<Vec<_>>();
        assert_eq!(ids(&recalled.hits), ids(&case.fused().await));
    }
}

#[tokio::test]
async fn tokens_are_never_more_than_the_budget() {
    let case = Case::new().await;
    let counter = Arc::new(BytesPerToken::default());
    for budget in [0, 1, 10, 17, 40, 10_000] {
        let tokens = Arc::<BytesPerToken>::clone(&counter);
        let recalled = case
            .run(Recall::new(case.query()).with_tokens(budget, tokens))
            .await;
        let n: usize = recalled
            .hits
            .iter()
            .map(|hit| counter.count(&hit.memory.text))
            .sum();
        assert!(n <= budget, "{n} of {budget}");
        assert_eq!(recalled.hits.len() + recalled.left_out.len(), 5);
    }
    let many = Recall::new(case.query()).with_candidates(Query::LIMIT_MAX + 1);
    let error = many.run(&case.store, &case.scope, &case.bench.env).await;
    assert!(error.is_err());
}
