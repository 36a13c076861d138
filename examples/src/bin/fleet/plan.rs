//! The planner: which checks of which files are worth a task.

use std::collections::BTreeMap;

use agent_orch::NewTask;
use agent_orch::merge::git::Repository;
use agent_orch::merge::{Entry, EntryKind, ObjectId, is_lfs_pointer};
use agent_sandbox::FileTree;
use anyhow::{Context, Result};
use serde_json::json;

use crate::agents::Job;
use crate::ages::Ages;
use crate::guest::FILE_BYTES_MAX;

/// The checks, with how urgent they are and which files they are for.
const CHECKS: &[(&str, u8, Files)] = &[
    ("secrets", 0, Files::Text),
    ("conflict-markers", 1, Files::Text),
    ("trailing-whitespace", 2, Files::Text),
    ("final-newline", 2, Files::Text),
    ("line-endings", 2, Files::Text),
    ("doubled-words", 3, Files::Text),
    ("links", 3, Files::Markdown),
    ("todo", 4, Files::Text),
    ("long-lines", 4, Files::Text),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Text,
    Markdown,
}

/// After how many days a note of something to do is stale.
const STALE_DAYS: u32 = 365;
/// How much of a file is looked at to tell text from binary; what git does.
const SNIFFED_BYTES: usize = 8_000;
/// The most Markdown bytes laid out for the link check.
const MARKDOWN_BYTES_MAX: usize = 128 << 20;

/// What is to be done, and what is left out and why.
pub(crate) struct Plan {
    pub(crate) tasks: Vec<NewTask>,
    pub(crate) tree: FileTree,
    pub(crate) n_files: usize,
    pub(crate) skipped: BTreeMap<&'static str, usize>,
}

/// Splits the tracked text files of a commit into tasks.
pub(crate) async fn plan(repo: &Repository, base: ObjectId) -> Result<Plan> {
    let entries = repo
        .files(base)
        .await
        .context("cannot list the tracked files")?;
    let mut plan = Plan {
        tasks: Vec::new(),
        tree: FileTree::builder().build()?,
        n_files: 0,
        skipped: BTreeMap::new(),
    };
    let ages = Ages::read(repo.path(), base).await?;
    let mut tree = FileTree::builder();
    let (mut paths, mut markdown_bytes) = (String::new(), 0_usize);
    for entry in &entries {
        match look(repo, entry).await? {
            Look::Skip(why) => *plan.skipped.entry(why).or_default() += 1,
            Look::Text(path, bytes) => {
                plan.n_files += 1;
                let is_markdown = is_markdown(&path);
                add_tasks(&mut plan.tasks, &path, base, is_markdown, &ages);
                if is_markdown && markdown_bytes + bytes.len() <= MARKDOWN_BYTES_MAX {
                    markdown_bytes += bytes.len();
                    tree = tree.file(path, bytes);
                }
            }
        }
        if let Ok(path) = entry.text_path() {
            paths.push_str(path.as_str().unwrap_or_default());
            paths.push('\n');
        }
    }
    plan.tree = tree.file("paths", paths.into_bytes()).build()?;
    Ok(plan)
}

enum Look {
    Text(String, Vec<u8>),
    Skip(&'static str),
}

async fn look(repo: &Repository, entry: &Entry) -> Result<Look> {
    match entry.kind {
        EntryKind::File | EntryKind::Executable => {}
        EntryKind::Symlink => return Ok(Look::Skip("symbolic links")),
        _ => return Ok(Look::Skip("submodules")),
    }
    let Ok(path) = entry.text_path() else {
        return Ok(Look::Skip("paths no checkout can hold"));
    };
    let Some(path) = path.as_str().map(str::to_owned) else {
        return Ok(Look::Skip("paths that are not UTF-8"));
    };
    if entry.size > u64::try_from(FILE_BYTES_MAX)? {
        return Ok(Look::Skip("files over 10 MiB"));
    }
    let bytes = match repo.read_blob(entry.id, FILE_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => {
            say_unreadable(&path, &error);
            return Ok(Look::Skip("unreadable files"));
        }
    };
    if bytes.iter().take(SNIFFED_BYTES).any(|b| *b == 0) {
        return Ok(Look::Skip("binary files"));
    }
    if is_lfs_pointer(&bytes) {
        return Ok(Look::Skip("LFS pointers"));
    }
    if bytes.is_empty() {
        return Ok(Look::Skip("empty files"));
    }
    Ok(Look::Text(path, bytes))
}

/// An unreadable object is named at once: the report only counts it.
#[expect(clippy::print_stderr, reason = "a program talks to its user")]
fn say_unreadable(path: &str, error: &agent_orch::merge::Error) {
    eprintln!("skipping {}: {error}", path.escape_debug());
}

fn is_markdown(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".md", ".markdown"].iter().any(|end| lower.ends_with(end))
}

fn add_tasks(tasks: &mut Vec<NewTask>, path: &str, base: ObjectId, is_markdown: bool, ages: &Ages) {
    for (check, priority, files) in CHECKS {
        if *files == Files::Markdown && !is_markdown {
            continue;
        }
        let options = match *check {
            "todo" => {
                vec![
                    format!("age_days={}", ages.of(path)),
                    format!("stale_days={STALE_DAYS}"),
                ]
            }
            _ => Vec::new(),
        };
        let (check, path) = ((*check).to_owned(), path.to_owned());
        let job = Job {
            check: check.clone(),
            path: path.clone(),
            base,
            options,
        };
        let task = NewTask::new(format!("{check}:{path}"), "menders", json!(job));
        tasks.push(task.with_priority(*priority));
    }
}
