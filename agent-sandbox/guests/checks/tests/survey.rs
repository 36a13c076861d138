//! Runs every check over the files below a folder and prints what they find and how long they take.
//!
//! survey FOLDER [FILES_MAX [CHECK]]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../checks/lib.rs"]
mod checks;

use checks::{CHECKS, Input, Options, Tree};

struct Folder {
    root: PathBuf,
    paths: Vec<u8>,
}

impl Tree for Folder {
    fn paths(&self) -> Option<Vec<u8>> {
        Some(self.paths.clone())
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root.join(path)).ok()
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_symlink() || name == ".git" || name == "target" {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)
        } else {
            files.push(path)
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(&args[0]);
    let n_max = args
        .get(1)
        .map_or(usize::MAX, |n| n.parse().expect("a number"));
    let mut files = Vec::new();
    walk(&root, &mut files);
    let stride = (files.len() / n_max).max(1);
    let names: Vec<_> = files
        .iter()
        .map(|file| {
            file.strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let tree = Folder {
        root: root.clone(),
        paths: names.join("\n").into_bytes(),
    };
    let mut spent: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str, bool), (usize, usize)> = BTreeMap::new();
    let (mut n_files, mut n_bytes) = (0, 0);
    for name in names.iter().step_by(stride).take(n_max) {
        let Ok(bytes) = std::fs::read(root.join(name)) else {
            continue;
        };
        n_files += 1;
        n_bytes += bytes.len();
        for (check, _) in CHECKS {
            if args.get(2).is_some_and(|wanted| wanted != check) {
                continue;
            }
            let options = Options::default();
            let input = Input {
                path: name.as_bytes(),
                bytes: &bytes,
                options,
                tree: &tree,
            };
            let start = Instant::now();
            let report = checks::run(check, &input);
            *spent.entry(check).or_default() += start.elapsed();
            let Ok(report) = report else { continue };
            let mut seen = std::collections::BTreeSet::new();
            for finding in &report.findings {
                let count = counts
                    .entry((check, finding.code, finding.fixable))
                    .or_default();
                count.0 += 1;
                count.1 += usize::from(seen.insert((finding.code, finding.fixable)));
                if args.get(2).is_some() {
                    let fix = if finding.fixable { "fix " } else { "" };
                    println!(
                        "{name}:{}:{} {fix}{} {}",
                        finding.line, finding.column, finding.code, finding.message
                    );
                }
            }
        }
    }
    println!("{n_files} files, {n_bytes} bytes");
    for ((check, code, fixable), (n, n_files)) in counts {
        println!("{check:20} {code:22} fixable={fixable:5} {n:6} in {n_files} files");
    }
    for (check, spent) in spent {
        println!("{check:20} {:8.1} ms", spent.as_secs_f64() * 1e3);
    }
}
