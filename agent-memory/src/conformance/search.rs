//! Laws of searching.

use std::time::Duration;

use agent_core::{Classify, ErrorKind, Timestamp};

use super::{START, Subject, home, somebody};
use crate::{Draft, Filter, Kind, Node, Query, Relation, Test, Trust, Value, Weights};

/// A memory is found by its words whatever their form, and by likeness where no word matches.
pub async fn words_and_meaning_find_a_memory(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let drafts = [
        "She runs marathons",
        "Photosynthesis in algae",
        "He paid the invoice",
    ];
    let drafts = drafts.into_iter().map(Draft::event).collect();
    subject
        .store
        .add(&scope, at.clone(), drafts)
        .await
        .expect("added");
    let texts = subject
        .texts(&scope, Query::new(at.clone(), "running a MARATHON?"))
        .await;
    assert_eq!(
        texts.first().map(String::as_str),
        Some("She runs marathons")
    );
    let texts = subject
        .texts(&scope, Query::new(at.clone(), "photosynthetic"))
        .await;
    assert_eq!(
        texts.first().map(String::as_str),
        Some("Photosynthesis in algae")
    );
    let one = Query::new(at.clone(), "invoice").with_limit(1);
    assert_eq!(subject.texts(&scope, one).await, ["He paid the invoice"]);
    for nothing in ["", "   ", "\u{200b}", "?!"] {
        assert!(
            subject
                .found(&scope, Query::new(at.clone(), nothing))
                .await
                .is_empty()
        );
    }
}

/// Every hit's score is above zero and the sum of what its signals gave; hits come best first.
pub async fn a_score_is_the_sum_of_its_explanation(subject: Subject) {
    let (scope, at) = (somebody(), home());
    for n in 0..20_u8 {
        let draft = Draft::event(format!("report {n} on turbine {}", n % 3)).in_thread("t");
        let id = subject.put(&scope, &at, draft).await;
        let relation = Relation::new(id, "about", Node::entity(format!("turbine {}", n % 3)));
        let related = subject
            .store
            .relate(&scope, at.clone(), vec![relation])
            .await;
        related.expect("related");
    }
    let weights = Weights {
        recency: 0.5,
        ..Weights::default()
    };
    let query = Query::new(at, "what of turbine 2?").with_weights(weights);
    let hits = subject.found(&scope, query).await;
    assert_eq!(hits.len(), 10);
    for pair in hits.windows(2) {
        assert!(pair[0].score >= pair[1].score);
    }
    for hit in hits {
        let why = hit.explanation;
        assert!(hit.score > 0.0 && (hit.score - why.total()).abs() < 1e-5);
        let all = [
            why.keyword,
            why.dense,
            why.tokens,
            why.thread,
            why.graph,
            why.time,
            why.brevity,
            why.recency,
        ];
        assert!(all.iter().all(|part| part.is_finite() && *part >= 0.0));
        assert!(why.keyword > 0.0 && why.thread > 0.0 && why.recency > 0.0);
    }
}

/// Memories of equal score come in the reverse order of their being added, each time.
pub async fn equal_scores_come_newest_first(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let drafts = vec![Draft::event("the same words"); 30];
    let added = subject
        .store
        .add(&scope, at.clone(), drafts)
        .await
        .expect("added");
    for _ in 0..2 {
        let hits = subject
            .found(&scope, Query::new(at.clone(), "same words"))
            .await;
        let ids: Vec<_> = hits.iter().map(|hit| hit.memory.id).collect();
        let newest: Vec<_> = added.iter().rev().take(10).map(|added| added.id).collect();
        assert_eq!(ids, newest);
    }
}

/// No hit breaks a condition of the filter, and hits that keep all of them are not crowded out.
pub async fn filters_hold_for_every_hit(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let mut drafts = vec![Draft::event("green tea and green tea and green tea"); 60];
    for n in 0..6_i64 {
        let day = Timestamp::from_unix_ms(n * 86_400_000);
        let draft = Draft::new(
            [Kind::Fact, Kind::Preference][usize::from(n % 2 == 0)],
            "green tea",
        )
        .with_label("n", n)
        .with_label("who", if n < 3 { "ana" } else { "bo" })
        .with_label("hot", n == 4)
        .in_thread(format!("t{}", n / 2))
        .occurred_at(day)
        .with_trust([Trust::Untrusted, Trust::Verified][usize::from(n > 2)]);
        drafts.push(draft);
    }
    subject
        .store
        .add(&scope, at.clone(), drafts)
        .await
        .expect("added");
    let day = |n: i64| Some(Timestamp::from_unix_ms(n * 86_400_000));
    let cases = [
        (Filter::new().kind(Kind::Fact), vec![1, 3, 5]),
        (
            Filter::new().kind(Kind::Fact).kind(Kind::Preference),
            vec![0, 1, 2, 3, 4, 5],
        ),
        (
            Filter::new().label("who", Test::Is("ana".into())),
            vec![0, 1, 2],
        ),
        (Filter::new().label("hot", Test::Is(true.into())), vec![4]),
        (
            Filter::new()
                .label("n", Test::AtLeast(2))
                .label("n", Test::Below(5)),
            vec![2, 3, 4],
        ),
        (
            Filter::new().label("n", Test::OneOf(vec![Value::from(1), Value::from(5)])),
            vec![1, 5],
        ),
        (
            Filter::new()
                .trust_min(Trust::Verified)
                .label("who", Test::IsNot("ana".into())),
            vec![3, 4, 5],
        ),
        (Filter::new().thread("t1"), vec![2, 3]),
        (Filter::new().occurred(day(1), day(3)), vec![1, 2]),
        (Filter::new().label("n", Test::Is("1".into())), vec![]),
    ];
    for (filter, expected) in cases {
        let query = Query::new(at.clone(), "green tea").with_filter(filter.clone());
        let hits = subject.found(&scope, query).await;
        let mut found: Vec<Value> = hits
            .iter()
            .filter_map(|hit| hit.memory.metadata.get("n").cloned())
            .collect();
        found.sort();
        let expected: Vec<Value> = expected.into_iter().map(|n: i64| Value::from(n)).collect();
        assert_eq!(
            (found, hits.len()),
            (expected.clone(), expected.len()),
            "{filter:?}"
        );
    }
}

/// Operators, quotes and column names of query languages are words or nothing.
pub async fn query_syntax_is_plain_text(subject: Subject) {
    let (scope, at) = (somebody(), home());
    subject
        .put(&scope, &at, Draft::event("near or not and text"))
        .await;
    let other = somebody().with_tenant("other");
    subject
        .put(&other, &at, Draft::event("near or not secret"))
        .await;
    let texts = [
        "near\" OR \"secret",
        "secret OR near",
        "NOT near",
        "near* AND (",
        "scope:p2 OR near",
        "scope : \"p2\" near",
        "{scope text} : near",
        "NEAR(near text, 5)",
        "^near",
        "-near",
        "near + text",
        "') ; DROP TABLE memory_entry; -- near",
        "near\0text",
        "\"",
        "\"\"\" near",
    ];
    for text in texts {
        for hit in subject.found(&scope, Query::new(at.clone(), text)).await {
            assert_eq!(hit.memory.text, "near or not and text", "{text}");
        }
    }
    assert_eq!(subject.found(&scope, Query::new(at, "near")).await.len(), 1);
}

/// Queries beyond the limits are refused.
pub async fn hostile_queries_are_refused(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let weights = |recency: f32| Weights {
        recency,
        ..Weights::default()
    };
    let query = || Query::new(at.clone(), "x");
    let many = (0..17).fold(Filter::new(), |f, n| f.label("k", Test::AtLeast(n)));
    let wide = Filter::new().label("k", Test::OneOf(vec![Value::from(1); 65]));
    let refused = [
        Query::new(at.clone(), "x".repeat(1 << 20)),
        query().with_limit(0),
        query().with_limit(1_001),
        query().with_weights(weights(f32::NAN)),
        query().with_weights(weights(f32::INFINITY)),
        query().with_weights(weights(-1.0)),
        query().with_filter(many),
        query().with_filter(wide),
        (0..9).fold(query(), |q, n| {
            q.also_in(crate::Namespace::new(&format!("n{n}")).expect("a path"))
        }),
    ];
    for query in refused {
        let error = subject.store.search(&scope, query).await.expect_err("no");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let long = Query::new(at.clone(), "x ".repeat(8_000)).with_limit(1_000);
    assert!(subject.found(&scope, long).await.is_empty());
}

/// A memory is found by what was said around it in its thread, and only there.
pub async fn a_thread_lends_its_context(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let drafts = vec![
        Draft::event("Where did you spend the holidays?").in_thread("chat"),
        Draft::event("Mostly in Lisbon.").in_thread("chat"),
        Draft::event("Mostly in Berlin.").in_thread("other"),
        Draft::event("Mostly in Madrid."),
    ];
    subject
        .store
        .add(&scope, at.clone(), drafts)
        .await
        .expect("added");
    let weights = Weights {
        dense: 0.0,
        ..Weights::default()
    };
    let query = Query::new(at, "holidays").with_weights(weights);
    let mut texts = subject.texts(&scope, query).await;
    texts.sort_unstable();
    assert_eq!(
        texts,
        ["Mostly in Lisbon.", "Where did you spend the holidays?"]
    );
}

/// What is related to an entity named in the question, or to a good match, gets ahead.
pub async fn entities_in_the_question_count(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let ids = subject
        .store
        .add(
            &scope,
            at.clone(),
            vec![
                Draft::event("I adore the mountains"),
                Draft::event("I adore the mountains"),
                Draft::event("A cabin was rented"),
            ],
        )
        .await
        .expect("added");
    let relations = vec![
        Relation::new(ids[0].id, "said by", Node::entity("Ana Lopez")),
        Relation::new(ids[2].id, "follows", ids[0].id).with_weight(0.5),
    ];
    subject
        .store
        .relate(&scope, at.clone(), relations)
        .await
        .expect("related");
    let weights = Weights {
        dense: 0.0,
        ..Weights::default()
    };
    let ask = |text: &str| Query::new(at.clone(), text).with_weights(weights.clone());
    let hits = subject
        .found(&scope, ask("Does ana lopez adore mountains?"))
        .await;
    assert_eq!(hits[0].memory.id, ids[0].id);
    assert!(hits[0].explanation.graph > 0.0);
    let unnamed = subject
        .found(&scope, ask("Does Ana adore mountains?"))
        .await;
    assert_eq!(unnamed[0].memory.id, ids[1].id, "half a name names nobody");
    let last = &unnamed[2];
    assert_eq!(
        last.memory.id, ids[2].id,
        "a related memory is found through the match"
    );
    assert!(last.explanation.keyword.abs() < 1e-6 && last.explanation.graph > 0.0);
}

/// Age counts only if asked for, and is no reason to be found by itself.
pub async fn recency_counts_if_asked_for(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let day = Duration::from_secs(86_400);
    subject.bench.advance(100 * day);
    let now = START.after(100 * day);
    let drafts = vec![
        Draft::event("lunch was soup").occurred_at(now),
        Draft::event("lunch was soup").occurred_at(START),
        Draft::event("zzz").occurred_at(now),
    ];
    let added = subject
        .store
        .add(&scope, at.clone(), drafts)
        .await
        .expect("added");
    let mut weights = Weights {
        dense: 0.0,
        ..Weights::default()
    };
    let query = Query::new(at, "soup").with_weights(weights.clone());
    let plain = subject.found(&scope, query.clone()).await;
    assert_eq!(plain[0].memory.id, added[1].id);
    weights.recency = 1.0;
    let hits = subject.found(&scope, query.with_weights(weights)).await;
    let ids: Vec<_> = hits.iter().map(|hit| hit.memory.id).collect();
    assert_eq!(ids, [added[0].id, added[1].id]);
    assert!((hits[0].explanation.recency - 1.0).abs() < 1e-3);
}

/// What happened in a month that the question names comes before the same at another time, and the
/// explanation says so.
pub async fn a_named_month_counts(subject: Subject) {
    let (scope, at) = (somebody(), home());
    let (may, june) = (1_683_504_000_000, 1_686_182_400_000);
    let drafts = [may, june]
        .map(|ms| Draft::event("lunch was soup").occurred_at(Timestamp::from_unix_ms(ms)))
        .to_vec();
    let added = subject
        .store
        .add(&scope, at.clone(), drafts)
        .await
        .expect("added");
    for (question, n) in [("soup in May 2023?", 0), ("What soup was it in June?", 1)] {
        let hits = subject
            .found(&scope, Query::new(at.clone(), question))
            .await;
        assert_eq!(hits[0].memory.id, added[n].id, "{question}");
        assert!(hits[0].explanation.time > 0.0 && hits[1].explanation.time <= 0.0);
    }
}
