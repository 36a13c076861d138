//! The main job as a user meets it: the binary, on real repositories, killed, fed nonsense.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "a killer of processes waits in real time"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use agent_core::{EntropyExt, OsEntropy};
use tempfile::TempDir;

const FLEET: &str = env!("CARGO_BIN_EXE_fleet");

/// Makes a repository whose files each need several mends, so that agents meet on them.
fn untidy(files: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    for n in 0..files {
        let mut text = String::new();
        for line in 0..20 {
            let blanks = if line % 7 == 0 { "  \t" } else { "" };
            let end = if line < 5 && n % 3 == 0 { "\r\n" } else { "\n" };
            text.push_str(&format!(
                "Line {line} is about the the weather.{blanks}{end}"
            ));
        }
        let text = if n % 2 == 0 {
            text.trim_end().to_owned()
        } else {
            text
        };
        std::fs::write(dir.path().join(format!("note{n}.txt")), text).unwrap();
    }
    let secret = "password = \"kT9x2LmQ8vRz4WnB7yHc3JpD\"\n";
    std::fs::write(dir.path().join("config.py"), secret).unwrap();
    std::fs::write(dir.path().join("blob.bin"), [0_u8, 1, 2, 3]).unwrap();
    commit_all(dir.path());
    dir
}

fn commit_all(path: &Path) {
    let repo = git2::Repository::init(path).unwrap();
    let mut index = repo.index().unwrap();
    index
        .add_all(["*"], git2::IndexAddOption::DEFAULT, None)
        .unwrap();
    index.write().unwrap();
    let tree = repo.find_tree(index.write_tree().unwrap()).unwrap();
    let by = git2::Signature::new("a", "a@b.example", &git2::Time::new(1_700_000_000, 0)).unwrap();
    repo.commit(Some("HEAD"), &by, &by, "start", &tree, &[])
        .unwrap();
}

fn fleet(repo: &Path, data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(FLEET);
    command
        .arg("--repo")
        .arg(repo)
        .arg("--data")
        .arg(data)
        .args(["--agents", "10"])
        .args(more);
    command.stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Returns the number at the end of the line that starts with `label`.
fn figure(output: &str, label: &str) -> u64 {
    let line = output
        .lines()
        .find(|line| line.trim_start().starts_with(label))
        .unwrap();
    line.split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap()
}

/// What landed: the tasks in order and the final tree.
fn landed(data: &Path) -> (Vec<String>, git2::Oid) {
    let clone = std::fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("clone-")
        })
        .unwrap();
    let repo = git2::Repository::open(clone).unwrap();
    let tip = repo
        .find_reference("refs/heads/agents/hygiene")
        .unwrap()
        .peel_to_commit()
        .unwrap();
    let tree = tip.tree_id();
    let mut tasks = Vec::new();
    let mut next = Some(tip);
    while let Some(commit) = next {
        let message = commit.message().unwrap_or_default().to_owned();
        tasks.extend(
            message
                .strip_prefix("Land ")
                .map(|m| m.split(':').next().unwrap().to_owned()),
        );
        next = commit.parent(0).ok();
    }
    (tasks, tree)
}

#[test]
fn a_fleet_mends_verifies_and_lands() {
    let (repo, data) = (untidy(6), TempDir::new().unwrap());
    let done = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    let said = text(&done);
    assert!(done.status.success(), "{said}");
    assert_eq!(figure(&said, "tasks"), figure(&said, "completed"), "{said}");
    assert!(figure(&said, "merges") >= 6, "{said}");
    assert!(said.contains("records verified"), "{said}");
    assert!(data.path().join("report.html").exists());
    let git = git2::Repository::open(repo.path()).unwrap();
    assert!(
        git.statuses(None).unwrap().is_empty(),
        "the working copy is untouched"
    );
    assert_eq!(
        git.branches(None).unwrap().count(),
        1,
        "the source gets no branches"
    );
}

#[test]
fn a_tidy_repository_stays_as_it_is() {
    let (repo, data) = (untidy(3), TempDir::new().unwrap());
    let first = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    assert!(first.status.success(), "{}", text(&first));
    let before = landed(data.path());
    let second = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    assert_eq!(figure(&text(&second), "merges"), 0, "{}", text(&second));
    assert_eq!(landed(data.path()), before);
}

#[test]
fn a_secret_waits_for_a_person() {
    let (repo, data) = (untidy(1), TempDir::new().unwrap());
    let waits = fleet(repo.path(), data.path(), &[]).output().unwrap();
    let said = text(&waits);
    assert!(waits.status.success(), "{said}");
    assert_eq!(figure(&said, "waiting"), 1, "{said}");
    assert!(
        !said.contains("kT9x2LmQ8vRz4WnB7yHc3JpD"),
        "the secret is not shown"
    );
    let goes_on = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    let said = text(&goes_on);
    assert!(said.contains("resuming"), "{said}");
    assert_eq!(figure(&said, "waiting"), 0, "{said}");
}

#[test]
fn a_killed_fleet_resumes_and_does_nothing_twice() {
    let kills: u32 = std::env::var("FLEET_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5);
    let (repo, data, calm) = (untidy(12), TempDir::new().unwrap(), TempDir::new().unwrap());
    let calmly = fleet(repo.path(), calm.path(), &["--yes"])
        .output()
        .unwrap();
    assert!(calmly.status.success(), "{}", text(&calmly));
    let mut n_killed = 0;
    for _ in 0..kills {
        let mut child = fleet(repo.path(), data.path(), &["--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ms = 200 + OsEntropy::new().next_u64() % 2_500;
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            n_killed += 1;
        }
    }
    let done = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    let said = text(&done);
    assert!(done.status.success(), "after {n_killed} kills: {said}");
    assert_eq!(figure(&said, "tasks"), figure(&said, "completed"), "{said}");
    assert!(said.contains("records verified"), "{said}");
    let ((tasks, tree), (_, wanted)) = (landed(data.path()), landed(calm.path()));
    let once: BTreeSet<&String> = tasks.iter().collect();
    assert_eq!(
        once.len(),
        tasks.len(),
        "a change landed twice after {n_killed} kills"
    );
    assert_eq!(tree, wanted, "the outcome differs after {n_killed} kills");
}

#[test]
fn faults_in_every_layer_change_nothing_in_the_end() {
    let (repo, data, calm) = (untidy(5), TempDir::new().unwrap(), TempDir::new().unwrap());
    let calmly = fleet(repo.path(), calm.path(), &["--yes"])
        .output()
        .unwrap();
    assert!(calmly.status.success(), "{}", text(&calmly));
    let done = fleet(repo.path(), data.path(), &["--yes", "--chaos", "0.1"])
        .output()
        .unwrap();
    let said = text(&done);
    assert!(done.status.success(), "{said}");
    assert_eq!(figure(&said, "tasks"), figure(&said, "completed"), "{said}");
    assert!(said.contains("chaos."), "{said}");
    assert_eq!(landed(data.path()).1, landed(calm.path()).1);
}

#[test]
fn bad_input_gets_one_message_that_says_what_to_do() {
    let (repo, data) = (untidy(1), TempDir::new().unwrap());
    let (nowhere, empty) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    git2::Repository::init(empty.path()).unwrap();
    let missing = nowhere.path().join("missing");
    for (path, expected) in [
        (nowhere.path(), "no git repository"),
        (empty.path(), "no commit"),
        (missing.as_path(), "there is no directory"),
    ] {
        let refused = fleet(path, data.path(), &["--yes"]).output().unwrap();
        let said = text(&refused);
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(said.lines().count() <= 2, "{said}");
    }
    std::fs::write(data.path().join("stack.db"), vec![7_u8; 20_000]).unwrap();
    let refused = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    let said = text(&refused);
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("damaged") && said.contains("what to do"),
        "{said}"
    );
    assert_eq!(
        std::fs::read(data.path().join("stack.db")).unwrap(),
        vec![7_u8; 20_000]
    );
}

#[test]
fn two_runs_do_not_share_a_data_directory() {
    let (repo, data) = (untidy(12), TempDir::new().unwrap());
    let mut first = fleet(repo.path(), data.path(), &["--yes"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !data.path().join("stack.db.lock").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = fleet(repo.path(), data.path(), &["--yes"])
        .output()
        .unwrap();
    let said = text(&second);
    // The first may hold the lock or, on a fast machine, have ended; never do both work at once.
    let refused = !second.status.success() && said.contains("in use");
    let first = first.wait().unwrap();
    assert!(first.success() || refused, "{said}");
    assert!(refused || said.contains("records verified"), "{said}");
}
