//! Cloning a repository on the same machine by its object files.
//!
//! A clone is built beside its place and renamed into it as the last act, so a directory with the
//! final name is complete.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::{Odb, Repository, Tree};

use super::open::{self, failed, io_failed};
use super::{entry_kind, from_oid, to_oid};
use crate::merge::error::{Error, Result};
use crate::merge::object::{EntryKind, ObjectId, RepoPath};

/// Where a clone keeps the commit it was made at.
pub(super) const SOURCE_REF: &str = "refs/heads/agents/source";

/// Times a directory of objects is read again because the source was repacked meanwhile.
const REPACKS_MAX: usize = 3;

/// Object directories a source may borrow from, itself included: what git allows.
const ALTERNATES_MAX: usize = 6;

/// How a clone is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloneOptions {
    revision: String,
    survives_power_loss: bool,
}

impl Default for CloneOptions {
    fn default() -> Self {
        Self {
            revision: "HEAD".to_owned(),
            survives_power_loss: true,
        }
    }
}

impl CloneOptions {
    /// Sets the revision the fleet starts from. Default: `HEAD`.
    #[must_use]
    pub fn with_revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Sets whether objects and references are synced to the disk before a call returns, by the
    /// clone's own `core.fsyncObjectFiles`. Default: true.
    ///
    /// Without it a killed process loses nothing, but a power loss may leave a reference on a commit
    /// whose objects are empty files.
    #[must_use]
    pub fn with_survives_power_loss(mut self, survives: bool) -> Self {
        self.survives_power_loss = survives;
        self
    }
}

/// Makes a clone at `into`, unless a complete one is there.
pub(super) fn make(source: &Path, into: &Path, options: &CloneOptions) -> Result<()> {
    if let Ok(clone) = open::isolated(into)
        && clone.find_reference(SOURCE_REF).is_ok()
    {
        return Ok(());
    }
    let occupied = fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some());
    let (Some(parent), Some(name), false) = (into.parent(), into.file_name(), occupied) else {
        return Err(Error::invalid(
            "clone",
            "the directory holds something else",
        ));
    };
    let source_repo = open::foreign(source)?;
    let head = from_oid(open::resolve(&source_repo, &options.revision)?);
    let mut partial_name = name.to_owned();
    partial_name.push(".agents-partial");
    let partial = parent.join(partial_name);
    match fs::remove_dir_all(&partial) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(io_failed("remove a partial clone")(e));
        }
        _ => fs::create_dir_all(&partial).map_err(io_failed("create the clone"))?,
    }
    fill(&source_repo, &partial, head, options)?;
    fs::rename(&partial, into).map_err(io_failed("move the clone into place"))?;
    sync_directory(parent, options)
}

fn fill(source: &Repository, partial: &Path, head: ObjectId, options: &CloneOptions) -> Result<()> {
    let clone = Repository::init_bare(partial).map_err(failed("create the clone"))?;
    let mut config = clone
        .config()
        .and_then(|config| config.open_level(git2::ConfigLevel::Local))
        .map_err(failed("configure the clone"))?;
    let set = config.set_bool("core.fsyncObjectFiles", options.survives_power_loss);
    set.map_err(failed("configure the clone"))?;
    drop(clone);
    let objects = partial.join("objects");
    for from in object_directories(&source.commondir().join("objects"))? {
        link_objects(&from, &objects, options)?;
    }
    match fs::copy(source.commondir().join("shallow"), partial.join("shallow")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(io_failed("copy the shallow boundary")(e));
        }
        _ => {}
    }
    let clone = open::isolated(partial)?;
    let commit = clone
        .find_commit(to_oid(head))
        .map_err(open::missing("commit", head))?;
    let tree = commit.tree().map_err(failed("read the source's tree"))?;
    let odb = clone.odb().map_err(failed("open the object database"))?;
    check_complete(&clone, &odb, &tree, &mut BTreeSet::new(), 0)?;
    let set = clone.reference(SOURCE_REF, commit.id(), true, "agents: clone");
    set.map_err(failed("name the source's commit"))?;
    clone.set_head(SOURCE_REF).map_err(failed("set HEAD"))
}

/// Returns a directory of objects and those it borrows from.
fn object_directories(own: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![own.to_owned()];
    let mut next = 0;
    while let Some(directory) = all.get(next).cloned() {
        next = next.saturating_add(1);
        let list = match fs::read_to_string(directory.join("info/alternates")) {
            Ok(list) => list,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io_failed("read alternates")(e)),
        };
        for line in list
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let alternate = directory.join(line);
            if !all.contains(&alternate) {
                all.push(alternate);
                Error::limit("a source's alternates", ALTERNATES_MAX, all.len())?;
            }
        }
    }
    Ok(all)
}

/// Brings every object file into the clone. Loose files go first: a repack moves objects from
/// loose files to packs, so what vanished from the former is found in the latter.
fn link_objects(from: &Path, to: &Path, options: &CloneOptions) -> Result<()> {
    let mut attempt: usize = 0;
    loop {
        match link_objects_once(from, to, options) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && attempt < REPACKS_MAX => {
                attempt = attempt.saturating_add(1);
            }
            done => return done.map_err(io_failed("copy objects")),
        }
    }
}

fn link_objects_once(from: &Path, to: &Path, options: &CloneOptions) -> io::Result<()> {
    let mut directories: Vec<_> = fs::read_dir(from)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    directories.retain(|name| is_fan_out(name));
    directories.push("pack".into());
    for directory in directories {
        let entries = match fs::read_dir(from.join(&directory)) {
            Ok(entries) => entries,
            // An empty fan-out directory goes away when it is pruned.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let to = to.join(&directory);
        fs::create_dir_all(&to)?;
        for entry in entries {
            let path = entry?.path();
            if let Some(name) = path.file_name()
                && is_object_file(&directory, &path)
            {
                link_or_copy(&path, &to.join(name), options)?;
            }
        }
        if options.survives_power_loss {
            fs::File::open(&to)?.sync_all()?;
        }
    }
    if options.survives_power_loss {
        fs::File::open(to)?.sync_all()
    } else {
        Ok(())
    }
}

fn is_fan_out(name: &OsStr) -> bool {
    name.len() == 2 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
}

/// Tells objects from indexes over several packs, which name packs this clone may lack.
fn is_object_file(directory: &OsStr, path: &Path) -> bool {
    if directory == "pack" {
        let kind = path.extension().and_then(OsStr::to_str);
        return matches!(kind, Some("pack" | "idx"))
            && path
                .file_name()
                .is_some_and(|n| n.as_encoded_bytes().starts_with(b"pack-"));
    }
    path.file_name().is_some_and(|name| {
        name.len() == 38 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
    })
}

/// Links a file that is never written again; copies it where links are not possible.
fn link_or_copy(from: &Path, to: &Path, options: &CloneOptions) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(e),
        Err(_unsupported) => {
            fs::copy(from, to)?;
            if options.survives_power_loss {
                fs::File::open(to)?.sync_all()
            } else {
                Ok(())
            }
        }
    }
}

fn sync_directory(path: &Path, options: &CloneOptions) -> Result<()> {
    if !options.survives_power_loss {
        return Ok(());
    }
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    fs::File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(io_failed("sync a directory"))
}

/// Checks that every object of a tree is there: a partial clone or a damaged source shows itself
/// here, not in the middle of a run.
fn check_complete(
    repo: &Repository,
    odb: &Odb<'_>,
    tree: &Tree<'_>,
    seen: &mut BTreeSet<git2::Oid>,
    depth: usize,
) -> Result<()> {
    Error::limit("a tree's depth", RepoPath::PARTS_MAX, depth)?;
    for entry in tree {
        if !seen.insert(entry.id()) {
            continue;
        }
        match entry_kind(entry.filemode()) {
            Some(EntryKind::Gitlink) => {}
            None => {
                let below = repo
                    .find_tree(entry.id())
                    .map_err(failed("read the source's tree"))?;
                check_complete(repo, odb, &below, seen, depth.saturating_add(1))?;
            }
            Some(_) if odb.exists(entry.id()) => {}
            Some(_) => {
                let what = format!("the source lacks blob {}", entry.id());
                return Err(Error::Corrupt { what, source: None });
            }
        }
    }
    Ok(())
}
