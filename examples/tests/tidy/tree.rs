//! The text files below a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

/// Directories that hold no source: build output, the data of a run, the history.
const SKIPPED: &[&str] = &["target", "agent-data", ".git"];

/// Text files by path, with `/` between the parts.
#[derive(Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
    others: BTreeSet<String>,
}

impl Tree {
    /// Reads all files; those that are not UTF-8 are known by name only.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self {
            files: BTreeMap::new(),
            others: BTreeSet::new(),
        };
        tree.add(root, "")?;
        Ok(tree)
    }

    fn add(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    self.others.insert(path.clone());
                    self.add(&entry.path(), &format!("{path}/"))?;
                }
            } else if kind.is_file() {
                match String::from_utf8(fs::read(entry.path())?) {
                    Ok(text) => drop(self.files.insert(path, text)),
                    Err(_binary) => drop(self.others.insert(path)),
                }
            }
        }
        Ok(())
    }

    /// Returns the text of a file.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Returns whether there is a file or directory.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.others.contains(path)
    }

    /// Returns all text files.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Returns the text files whose name ends so.
    pub(crate) fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(move |(path, _)| path.ends_with(end))
    }

    /// Returns the Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending(".rs")
    }

    /// Returns the directories of the members that are libraries.
    pub(crate) fn crates(&self) -> Vec<&str> {
        self.all()
            .filter_map(|(path, _)| path.strip_suffix("/Cargo.toml"))
            .filter(|dir| dir.starts_with("agent-") && !dir.contains('/'))
            .collect()
    }
}
