//! SQLite databases in a directory of the host.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::{ErrorKind, Retry};
use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};

use super::{
    Blocker, BlockerCode, CredentialName, Inspected, Offer, Plan, Provisioner, ResourceName, Spec,
    Vault,
};
use crate::error::{Error, Result};

const NAME: &str = "sqlite";
/// Marks a file as one of this provisioner (`AgDp`), so that another is never taken for it.
const APPLICATION_ID: i32 = 0x4167_4470;
/// What the name of a database that can be used ends with.
const AWAKE: &str = "db";
/// What the name of one that sleeps ends with: whoever has the path finds nothing there.
const ASLEEP: &str = "asleep";
/// What the name of one ends with that is being made: under its own name it is whole.
const MAKING: &str = "making";

/// Makes SQLite databases, a file each, in one directory.
///
/// A database is one file of mode 0600 beside which SQLite keeps its log while somebody uses it.
/// Names cannot lead out of the directory and symbolic links are refused.
///
/// Scaled to zero, the log is folded into the file and the file renamed, so that nothing is open
/// and nothing can open it by the path of the credential. That is refused while anybody has it
/// open.
///
/// # Quota
/// [`Self::connect`] opens a database so that it cannot grow beyond its plan. SQLite keeps such a
/// limit with the connection and not in the file: what opens the path by other means is only
/// measured, by [`Provisioner::inspect`].
#[derive(Clone, Debug)]
pub struct SqliteDatabases {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    offer: Offer,
    n_max: usize,
}

impl SqliteDatabases {
    /// The offer's name.
    pub const OFFER: &'static str = "sqlite/database";
    /// The most databases of one directory, unless the host says otherwise.
    pub const N_MAX: usize = 10_000;

    /// Makes databases in `dir`, with the host's plans.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, plans: Vec<Plan>) -> Self {
        let description = "a SQLite database in a file of this machine";
        Self {
            inner: Arc::new(Inner {
                dir: dir.into(),
                offer: Offer::new(Self::OFFER, description, plans),
                n_max: Self::N_MAX,
            }),
        }
    }

    /// Sets the most databases of the directory. Default: 10,000.
    #[must_use]
    pub fn with_n_max(self, n_max: usize) -> Self {
        let (dir, offer) = (self.inner.dir.clone(), self.inner.offer.clone());
        Self {
            inner: Arc::new(Inner { dir, offer, n_max }),
        }
    }

    /// Opens a database within the quota of a plan. It blocks: call it where that is allowed.
    ///
    /// # Errors
    /// `NotFound` if there is no such database or it sleeps, `Denied` for a symbolic link.
    pub fn connect(&self, name: &ResourceName, plan: &Plan) -> Result<Connection> {
        let path = self.inner.path(name, AWAKE)?;
        if !is_ours(&path)? {
            return Err(Error::ResourceNotFound { name: name.clone() });
        }
        let connection = open(&path)?;
        if let Some(bytes) = plan.storage_bytes_max {
            let page: i64 = pragma(&connection, "page_size")?;
            let pages = i64::try_from(bytes).unwrap_or(i64::MAX).checked_div(page);
            connection
                .pragma_update(None, "max_page_count", pages.unwrap_or(1).max(1))
                .map_err(failed("set the quota"))?;
        }
        Ok(connection)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|ended| {
            let (kind, retry) = (ErrorKind::Internal, Retry::Unknown);
            Err(Error::backend(NAME, "run", kind, retry, ended))
        })
    }
}

impl Inner {
    /// Returns the directory without links, which SQLite refuses in the path of a database.
    fn dir(&self) -> Result<PathBuf> {
        self.dir.canonicalize().map_err(io("find the directory"))
    }

    fn path(&self, name: &ResourceName, end: &str) -> Result<PathBuf> {
        Ok(self.dir()?.join(format!("{name}.{end}")))
    }

    fn create(&self, name: &ResourceName) -> Result<PathBuf> {
        let (path, asleep) = (self.path(name, AWAKE)?, self.path(name, ASLEEP)?);
        if is_ours(&asleep)? && !is_ours(&path)? {
            std::fs::rename(&asleep, &path).map_err(io("wake a database"))?;
        }
        if !is_ours(&path)? {
            let making = self.path(name, MAKING)?;
            // What a creation that was cut off left.
            remove(&making)?;
            make(&making)?;
            std::fs::rename(&making, &path).map_err(io("name a database"))?;
        }
        self.sync_names()?;
        Ok(path)
    }

    fn alter(&self, name: &ResourceName, is_awake: bool) -> Result<()> {
        let (path, asleep) = (self.path(name, AWAKE)?, self.path(name, ASLEEP)?);
        match (is_awake, is_ours(&path)?, is_ours(&asleep)?) {
            (true, true, _) | (false, false, true) => Ok(()),
            (_, false, false) => Err(Error::ResourceNotFound { name: name.clone() }),
            (true, false, true) => {
                std::fs::rename(&asleep, &path).map_err(io("wake a database"))?;
                self.sync_names()
            }
            (false, true, _) => {
                fall_asleep(name, &path, &asleep)?;
                self.sync_names()
            }
        }
    }

    fn destroy(&self, name: &ResourceName) -> Result<()> {
        remove(&self.path(name, MAKING)?)?;
        for end in [AWAKE, ASLEEP] {
            let path = self.path(name, end)?;
            if is_ours(&path)? {
                for beside in ["-wal", "-shm", "-journal", ""] {
                    let mut file = path.clone().into_os_string();
                    file.push(beside);
                    remove(Path::new(&file))?;
                }
            }
        }
        self.sync_names()
    }

    /// Makes names durable that were added, moved or removed.
    fn sync_names(&self) -> Result<()> {
        let dir = File::open(&self.dir).map_err(io("open the directory"))?;
        dir.sync_all().map_err(io("make a name durable"))
    }

    fn list(&self) -> Result<Vec<ResourceName>> {
        let mut names = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io("list the directory"))? {
            let path = entry.map_err(io("list the directory"))?.path();
            let end = path.extension().and_then(|end| end.to_str());
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(AWAKE | ASLEEP), Some(name)) = (end, name)
                && let Ok(name) = ResourceName::new(name)
                && is_ours(&path).unwrap_or(false)
            {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    fn blockers(&self, spec: &Spec) -> Vec<Blocker> {
        let mut found = spec.blockers_in(std::slice::from_ref(&self.offer));
        let unusable = |found: String| {
            let remedy = "name a directory this process may write";
            Blocker::new(BlockerCode::DirectoryUnusable, found, remedy)
        };
        match self.list() {
            Err(error) => found.push(unusable(error.to_string())),
            Ok(names) => {
                if names.len() >= self.n_max && !names.contains(&spec.name) {
                    found.push(Blocker::new(
                        BlockerCode::LimitReached,
                        format!("there are {} databases of {}", names.len(), self.n_max),
                        "remove one, or raise the limit",
                    ));
                }
            }
        }
        let is_writable =
            std::fs::metadata(&self.dir).is_ok_and(|about| !about.permissions().readonly());
        if !is_writable
            && found
                .iter()
                .all(|b| b.code != BlockerCode::DirectoryUnusable)
        {
            found.push(unusable("the directory is read-only".to_owned()));
        }
        for end in [AWAKE, ASLEEP] {
            if let Ok(path) = self.path(&spec.name, end)
                && let Err(error) = is_ours(&path)
            {
                found.push(Blocker::new(
                    BlockerCode::NameTaken,
                    error.to_string(),
                    "choose another name",
                ));
            }
        }
        found
    }

    fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        for (end, is_awake) in [(AWAKE, true), (ASLEEP, false)] {
            let path = self.path(name, end)?;
            if is_ours(&path)? {
                let mut found = Inspected::new(is_awake);
                let about = std::fs::metadata(&path).map_err(io("measure a database"))?;
                found.storage_bytes = Some(about.len());
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Folds the log into the file and renames it while nobody else has it open.
fn fall_asleep(name: &ResourceName, path: &Path, asleep: &Path) -> Result<()> {
    let in_use = |_busy| Error::ResourceInUse { name: name.clone() };
    let connection = open(path)?;
    connection
        .busy_timeout(std::time::Duration::ZERO)
        .map_err(failed("set the time limit for locks"))?;
    // Leaving the log needs the file for oneself: SQLite refuses it while others are connected.
    let mode: String = connection
        .query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))
        .map_err(in_use)?;
    if mode != "delete" {
        return Err(Error::ResourceInUse { name: name.clone() });
    }
    connection
        .execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE")
        .map_err(in_use)?;
    std::fs::rename(path, asleep).map_err(io("put a database to sleep"))
}

/// Returns whether a database of this provisioner is there.
fn is_ours(path: &Path) -> Result<bool> {
    let about = match std::fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(false),
        Err(error) => return Err(io("look at a file")(error)),
    };
    if !about.is_file() {
        return Err(taken("something that is no file has its name"));
    }
    match pragma::<i32>(&open(path)?, "application_id") {
        Ok(APPLICATION_ID) => Ok(true),
        _ => Err(taken("another program's file has its name")),
    }
}

fn taken(found: &'static str) -> Error {
    Error::blocked(vec![Blocker::new(
        BlockerCode::NameTaken,
        found,
        "choose another name",
    )])
}

/// Makes a database that is durable when this returns: its bytes wait for the disk once, not with
/// each of SQLite's steps.
fn make(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(io("create a file"))?;
    let connection = open(path)?;
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; PRAGMA application_id={APPLICATION_ID}"
        ))
        .map_err(failed("make a database"))?;
    // Moves the log into the file.
    drop(connection);
    file.sync_all().map_err(io("make a database durable"))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != IoKind::NotFound => Err(io("remove a file")(error)),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags).map_err(failed("open a database"))
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<T> {
    connection
        .pragma_query_value(None, name, |row| row.get(0))
        .map_err(failed("read a setting"))
}

fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| Error::backend(NAME, operation, ErrorKind::Unavailable, Retry::Safe, error)
}

fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| {
        let kind = match error.kind() {
            IoKind::NotFound => ErrorKind::NotFound,
            IoKind::PermissionDenied => ErrorKind::Denied,
            IoKind::StorageFull | IoKind::QuotaExceeded => ErrorKind::Exhausted,
            _ => ErrorKind::Unavailable,
        };
        Error::backend(NAME, operation, kind, Retry::Safe, error)
    }
}

#[async_trait]
impl Provisioner for SqliteDatabases {
    fn name(&self) -> &str {
        NAME
    }

    async fn catalogue(&self) -> Result<Vec<Offer>> {
        Ok(vec![self.inner.offer.clone()])
    }

    async fn preflight(&self, spec: &Spec) -> Result<Vec<Blocker>> {
        let spec = spec.clone();
        self.blocking(move |inner| Ok(inner.blockers(&spec))).await
    }

    async fn create(&self, spec: &Spec, vault: &dyn Vault) -> Result<Vec<CredentialName>> {
        let blockers = spec.blockers_in(std::slice::from_ref(&self.inner.offer));
        if !blockers.is_empty() {
            return Err(Error::blocked(blockers));
        }
        let name = spec.name.clone();
        let path = self.blocking(move |inner| inner.create(&name)).await?;
        let credential = CredentialName::of(NAME, &spec.name, "path")?;
        let path = path.display().to_string();
        vault.put(&credential, path.into()).await?;
        Ok(vec![credential])
    }

    async fn alter(&self, spec: &Spec, is_awake: bool) -> Result<()> {
        let name = spec.name.clone();
        self.blocking(move |inner| inner.alter(&name, is_awake))
            .await
    }

    async fn destroy(&self, name: &ResourceName, vault: &dyn Vault) -> Result<()> {
        let of = name.clone();
        self.blocking(move |inner| inner.destroy(&of)).await?;
        vault.remove_all(NAME, name).await
    }

    async fn inspect(&self, name: &ResourceName) -> Result<Option<Inspected>> {
        let name = name.clone();
        self.blocking(move |inner| inner.inspect(&name)).await
    }

    async fn list(&self) -> Result<Vec<ResourceName>> {
        self.blocking(Inner::list).await
    }
}
