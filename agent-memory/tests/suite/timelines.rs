//! Curation on generated timelines: as typed claims every belief is right; in words it is scored.

#![expect(clippy::print_stdout, reason = "the scores are to be read")]

use agent_memory::timelines::{Score, Style, Timeline, Told, rules, score};

const N_TIMELINES: u64 = 480;

fn show(name: &str, score: &Score) {
    println!(
        "{name}: precision {:.3}, recall {:.3}, stale {:.3}, as of {:.3}, duplicates {} \
         ({} timelines, {} statements, {} slots, {} moments)",
        score.precision(),
        score.recall(),
        score.stale(),
        score.as_of(),
        score.n_duplicates,
        score.n_timelines,
        score.n_statements,
        score.n_slots,
        score.n_moments,
    );
}

#[tokio::test]
async fn typed_claims_leave_the_right_belief_at_every_moment() {
    let found = score(N_TIMELINES, Told::Typed, None, rules())
        .await
        .unwrap();
    show("typed", &found);
    assert!(found.n_timelines >= 400 && found.n_expected > 1_000);
    assert_eq!(found.n_moments_right, found.n_moments);
    assert_eq!(
        (found.n_right, found.n_believed),
        (found.n_expected, found.n_expected)
    );
    assert_eq!((found.n_stale, found.n_duplicates), (0, 0));
}

#[tokio::test]
async fn sentences_leave_no_duplicates_and_mostly_the_right_belief() {
    let plain = score(N_TIMELINES, Told::InWords, Some(Style::Plain), rules())
        .await
        .unwrap();
    let varied = score(N_TIMELINES, Told::InWords, Some(Style::Varied), rules())
        .await
        .unwrap();
    let unseen = score(N_TIMELINES, Told::InWords, Some(Style::Unseen), rules())
        .await
        .unwrap();
    show("plain", &plain);
    show("varied", &varied);
    show("unseen", &unseen);
    let duplicates = [plain, varied, unseen].map(|score| score.n_duplicates);
    assert_eq!(duplicates, [0; 3]);
    assert!(plain.precision() > 0.98 && plain.recall() > 0.98 && plain.as_of() > 0.98);
    assert!(plain.stale() < 0.01);
}

#[test]
fn timelines_hold_every_kind_of_change() {
    let all: Vec<Timeline> = (0..N_TIMELINES).map(Timeline::generate).collect();
    assert_eq!(all[7], Timeline::generate(7));
    let is_late = |timeline: &&Timeline| !timeline.arriving.is_sorted_by_key(|s| s.said_at);
    let statements = || all.iter().flat_map(|timeline| &timeline.arriving);
    assert!(all.iter().filter(is_late).count() > 200);
    assert!(
        all.iter()
            .filter(|timeline| timeline.erased.is_some())
            .count()
            > 80
    );
    assert!(statements().filter(|statement| statement.is_over).count() > 400);
    assert!(
        statements()
            .filter(|statement| statement.attribute.is_empty())
            .count()
            > 300
    );
}
