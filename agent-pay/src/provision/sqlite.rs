//! SQLite databases in a directory of the host.

mod ahead;
mod file;
mod slot;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use agent_core::{ErrorKind, Retry};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::{
    Blocker, BlockerCode, CredentialName, Inspected, Offer, Plan, Provisioner, ResourceName, Spec,
    Vault,
};
use crate::error::{Error, Result};
use file::{failed, fall_asleep, io, is_ours, open, pragma, remove_database};

const NAME: &str = "sqlite";
/// What the name of a database that can be used ends with.
const AWAKE: &str = "db";
/// What the name of one that sleeps ends with: whoever has the path finds nothing there.
const ASLEEP: &str = "asleep";

/// Makes SQLite databases, a file each, in one directory.
///
/// A database is one file of mode 0600 beside which SQLite keeps its log while somebody uses it.
/// Names cannot lead out of the directory and symbolic links are refused.
///
/// Scaled to zero, the log is folded into the file and the file renamed, so that nothing is open
/// and nothing can open it by the path of the credential. That is refused while anybody has it
/// open.
///
/// # Speed
/// A new file waits for the disk with its bytes and with its name. Where that is too slow,
/// [`Self::fill`] makes empty databases ahead, and creating one renames it.
///
/// # Quota
/// [`Self::connect`] opens a database so that it cannot grow beyond its plan. SQLite keeps such a
/// limit with the connection and not in the file: what opens the path by other means is only
/// measured, by [`Provisioner::inspect`].
#[derive(Clone, Debug)]
pub struct SqliteDatabases {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    dir: PathBuf,
    offer: Offer,
    n_max: usize,
    n_warm: usize,
    /// Keeps a creation that nobody waits for any more apart from the one that repeats it.
    creating: Arc<Mutex<()>>,
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
                n_warm: 0,
                creating: Arc::default(),
            }),
        }
    }

    /// Sets the most databases of the directory. Default: 10,000.
    #[must_use]
    pub fn with_n_max(self, n_max: usize) -> Self {
        self.with(|inner| inner.n_max = n_max)
    }

    /// Sets how many empty databases [`Self::fill`] keeps ahead, beside those that were ordered. Each
    /// takes 4 KiB of disk. Default: none.
    #[must_use]
    pub fn with_n_warm(self, n_warm: usize) -> Self {
        self.with(|inner| inner.n_warm = n_warm)
    }

    fn with(self, set: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        set(&mut inner);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Makes empty databases ahead until there are as many as were asked for, and returns how many it
    /// made; none while another fills the same directory. Call it when there is time, after each
    /// creation for example.
    ///
    /// # Errors
    /// Those of the file system.
    ///
    /// # Cancel safety
    /// Safe to drop: it goes on, and what a crash cut off the next call makes anew.
    pub async fn fill(&self) -> Result<usize> {
        self.blocking(Inner::fill).await
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
        let _alone = self.creating.lock();
        let (path, asleep) = (self.path(name, AWAKE)?, self.path(name, ASLEEP)?);
        if is_ours(&asleep)? && !is_ours(&path)? {
            std::fs::rename(&asleep, &path).map_err(io("wake a database"))?;
        }
        if !is_ours(&path)? {
            self.clear_slots(name.as_str())?;
            if !self.claim(name, &path)? {
                self.make(name.as_str(), &path)?;
            }
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
        self.clear_slots(name.as_str())?;
        for end in [AWAKE, ASLEEP] {
            let path = self.path(name, end)?;
            if is_ours(&path)? {
                remove_database(&path)?;
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
        let ours = |(_name, path): &(_, PathBuf)| is_ours(path).unwrap_or(false);
        let names = self.named()?.into_iter().filter(ours);
        let names: BTreeSet<_> = names.map(|(name, _path)| name).collect();
        Ok(names.into_iter().collect())
    }

    /// Lists the files that are called as databases are, without opening them.
    fn named(&self) -> Result<Vec<(ResourceName, PathBuf)>> {
        let mut named = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io("list the directory"))? {
            let path = entry.map_err(io("list the directory"))?.path();
            let end = path.extension().and_then(|end| end.to_str());
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(AWAKE | ASLEEP), Some(name)) = (end, name)
                && let Ok(name) = ResourceName::new(name)
            {
                named.push((name, path));
            }
        }
        Ok(named)
    }

    /// Counts the databases if another of this name would be one too many.
    fn too_many(&self, name: &ResourceName) -> Result<Option<usize>> {
        // Files of others count for nothing, but as long as all together are few enough none has to
        // be opened to see whose it is.
        if self.named()?.len() < self.n_max {
            return Ok(None);
        }
        let names = self.list()?;
        let is_full = names.len() >= self.n_max && !names.contains(name);
        Ok(is_full.then_some(names.len()))
    }

    fn blockers(&self, spec: &Spec) -> Vec<Blocker> {
        let mut found = spec.blockers_in(std::slice::from_ref(&self.offer));
        let unusable = |found: String| {
            let remedy = "name a directory this process may write";
            Blocker::new(BlockerCode::DirectoryUnusable, found, remedy)
        };
        match self.too_many(&spec.name) {
            Err(error) => found.push(unusable(error.to_string())),
            Ok(None) => {}
            Ok(Some(n)) => found.push(Blocker::new(
                BlockerCode::LimitReached,
                format!("there are {n} databases of {}", self.n_max),
                "remove one, or raise the limit",
            )),
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
