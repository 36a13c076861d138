//! A page of a run full of hostile names.

use agent_core::store::{Config, Db, Durability};
use agent_core::{Asset, Digest, Env, ErrorKind, Principal, Retry, RunId, Scope, TaskId};
use agent_orch::backend::sqlite::Sqlite;
use agent_orch::{Journal, NewRequest, NewRun, NewTask};
use serde_json::json;

use super::*;

const HOSTILE: &str =
    "</svg><script>alert('x')</script><img src=x onerror=\"x\">&amp;\u{202e}\u{0}";

/// A report and the questions of a run, with hostile text wherever text comes from outside.
async fn hostile() -> (Report, Vec<Request>, tempfile::TempDir) {
    let (dir, env) = (tempfile::tempdir().unwrap(), Env::system());
    let config = Config::new(dir.path().join("j.db")).with_durability(Durability::Nothing);
    let journal = Sqlite::open(Db::open(config, &env).await.unwrap(), env.clone())
        .await
        .unwrap();
    let host = Scope::new(Principal::host());
    let new = NewRun::new(HOSTILE, Digest::of_bytes(b"fleet"), json!({}));
    let run = journal.open_run(&host, new).await.unwrap().id;
    let task = NewTask::new(HOSTILE, "menders", json!({}));
    let id = task.id(run);
    journal.submit(&host, run, vec![task]).await.unwrap();
    let deadline = env.clock.now().after(Duration::from_secs(86_400));
    for (name, question) in [
        (
            "credential",
            "src/settings.py, line 12: this looks like an AWS access key. Rotate it?",
        ),
        ("hostile", HOSTILE),
    ] {
        let request = ask(run, id, name, question, deadline);
        journal.ask(&host, request).await.unwrap();
    }
    let open = journal.open_requests(run).await.unwrap();
    let mut report = Report::of(&journal, run, Asset::USD).await.unwrap();
    fill(&mut report);
    (report, open, dir)
}

fn ask(
    run: RunId,
    task: TaskId,
    name: &str,
    question: &str,
    deadline: agent_core::Timestamp,
) -> NewRequest {
    NewRequest::new(
        run,
        task,
        name,
        question,
        &["rotate and remove", HOSTILE, "leave it"],
        deadline,
    )
}

fn fill(report: &mut Report) {
    (report.until, report.slot_ms) = (report.from.after(Duration::from_secs(184)), 1_534);
    (report.submitted, report.completed, report.landed) = (12_031, 11_987, 412);
    (
        report.failed,
        report.rejected,
        report.conflicted,
        report.resolved,
    ) = (9, 4, 17, 16);
    (
        report.retries,
        report.restarts,
        report.asked,
        report.answered,
    ) = (388, 21, 14, 12);
    for (name, tries, done) in [
        ("sandbox", 24_018, 23_304),
        ("pay", 24_018, 24_018),
        ("memory", 812, 790),
        ("tool", 1_300, 1_261),
        ("merge", 412, 401),
        (HOSTILE, 3, 0),
    ] {
        let layer = report.layers.entry(name.to_owned()).or_default();
        (layer.tries, layer.done) = (tries, done);
    }
    for (name, attempts, spent) in [
        ("menders", 12_419, 19_204_511),
        ("verifiers", 12_031, 4_801_220),
        (HOSTILE, 1, -5),
        ("", 0, 0),
    ] {
        let pool = report.pools.entry(name.to_owned()).or_default();
        (pool.attempts, pool.spent) = (attempts, spent);
    }
    for (kind, injected, recovered) in [
        ("chaos.timeout", 240, 240),
        ("chaos.crash", 21, 21),
        ("chaos.lost_answer", 127, 118),
        (HOSTILE, 0, 0),
    ] {
        let fault = report.faults.entry(kind.to_owned()).or_default();
        (fault.injected, fault.recovered) = (injected, recovered);
    }
    report.timeline = (0..120_u64)
        .map(|n| {
            let mut slot = Slot::default();
            slot.done = (n * 7 % 31 + 60) * u64::from(n < 112);
            slot.verified = (n * 11 % 37 + 50) * u64::from(n > 2);
            slot.landed = n % 9 * u64::from(n > 8);
            slot.failed = u64::from(n % 5 == 0) * (n % 7);
            slot
        })
        .collect();
}

fn check(name: &str, counts: [u64; 4]) -> CheckRow {
    let [files, findings, fixed, landed] = counts;
    CheckRow {
        check: name.to_owned(),
        files,
        findings,
        fixed,
        landed,
    }
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let (report, open, _dir) = hostile().await;
    let failure = Failure::new(
        ErrorKind::Internal,
        Retry::Never,
        "sandbox.trap",
        HOSTILE,
        "look at the log",
    );
    let quarantined = BTreeMap::from([(HOSTILE.to_owned(), failure)]);
    let checks = [
        check("trailing-whitespace", [3_004, 988, 988, 210]),
        check("final-newline", [3_004, 141, 141, 141]),
        check("secrets", [3_004, 3, 0, 0]),
        check(HOSTILE, [0, 0, 0, 0]),
    ];
    let html = render(&Page {
        report: &report,
        durability: "power_loss",
        fleet: &Digest::of_bytes(b"fleet").to_string(),
        waiting: 2,
        open: &open,
        quarantined: &quarantined,
        checks: &checks,
        audit: Ok(Audit::new(118_204, Digest::of_bytes(b"head"))),
        command: Some("git -C agent-data/clone diff 1f2e3d4c agents/hygiene"),
    });
    for forbidden in [
        "<script", "<img", "</svg><s", "\u{202e}", "\u{0}", "NaN", "inf", "http:", "https:",
    ] {
        assert!(!html.contains(forbidden), "the page has {forbidden:?}");
    }
    assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    assert!(html.contains("\\u{202e}"));
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert_eq!(html.matches("<td").count(), html.matches("</td>").count());
    assert!(html.contains("<title id=\"tl-title\">") && html.contains("<desc id=\"tl-desc\">"));
}

#[tokio::test]
async fn an_empty_run_has_a_page() {
    let (mut report, _open, _dir) = hostile().await;
    report.timeline.clear();
    report.pools.clear();
    report.layers.clear();
    report.faults.clear();
    (report.submitted, report.completed) = (0, 0);
    let html = render(&Page {
        report: &report,
        durability: "power_loss",
        fleet: "",
        waiting: 0,
        open: &[],
        quarantined: &BTreeMap::new(),
        checks: &[],
        audit: Err(HOSTILE.to_owned()),
        command: None,
    });
    assert!(!html.contains("NaN") && !html.contains("<script"));
    assert!(html.contains("not verified</span>: &lt;/svg&gt;"));
    assert!(html.contains("0 of 0 tasks"));
}

#[test]
fn a_long_text_is_cut() {
    let long = "é".repeat(10_000);
    assert!(Text(&long).to_string().chars().count() <= 401);
}
