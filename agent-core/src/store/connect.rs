//! Opening the file: settings that are checked, the lock, and what statements may not do.

use std::fs::{File, OpenOptions, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags};

use super::{Config, Error, sql};

/// Statements kept prepared: more than all layers of a stack use together.
const STATEMENT_CACHE: usize = 256;
/// What the write-ahead log is cut back to after a burst, in bytes.
const LOG_BYTES_KEPT: u32 = 64 << 20;
/// How long the log may grow before it is moved into the file, in pages of 4 KiB. Pages that many
/// commits touch are moved once, so a longer log costs less a commit; this one fits the size the
/// log is cut back to.
const LOG_PAGES: u32 = 8_192;
/// How much of the file the writer keeps in memory at most, in KiB: the indexes of a million
/// scattered keys, so that a look-up costs the same when a store has grown. Readers, of which there
/// are several, keep 8 MiB.
const PAGES_KIB: u32 = 65_536;
/// Marks the file as a store of this crate (`AgDb`), so that another program's database is not
/// taken for one.
const APPLICATION_ID: i32 = 0x4167_4462;
/// The savepoint a write runs in that has neighbours before it.
pub(super) const SAVEPOINT: &str = "agent_store_write";
/// The settings a write or read may look at and not change.
const SETTINGS_FIXED: [&str; 13] = [
    "application_id",
    "defer_foreign_keys",
    "foreign_keys",
    "ignore_check_constraints",
    "journal_mode",
    "journal_size_limit",
    "locking_mode",
    "query_only",
    "secure_delete",
    "synchronous",
    "trusted_schema",
    "wal_autocheckpoint",
    "writable_schema",
];

/// What an open store holds.
pub(super) struct Opened {
    pub(super) writer: Confined,
    pub(super) readers: Vec<Confined>,
    /// Held until the writer ends; the system releases it when the process dies.
    pub(super) lock: File,
}

/// Takes the lock, then opens all connections.
pub(super) fn open(config: &Config) -> Result<Opened, Error> {
    let lock = take_lock(config)?;
    let writer = connect(config)?;
    adopt(&writer)?;
    let readers = (0..config.n_readers)
        .map(|_| {
            let reader = connect(config)?;
            reader
                .execute_batch("PRAGMA query_only=ON; PRAGMA cache_size=-8192")
                .map_err(sql("make a connection read-only"))?;
            Confined::new(reader)
        })
        .collect::<Result<_, Error>>()?;
    Ok(Opened {
        writer: Confined::new(writer)?,
        readers,
        lock,
    })
}

/// A connection that, while a caller's function runs, refuses what would break the transaction it
/// shares with others: ending it, leaving its savepoint, changing the store's settings, attaching
/// files.
pub(super) struct Confined {
    pub(super) connection: Connection,
    is_inside: Arc<AtomicBool>,
    /// Whether a caller ever prepared a savepoint of its own.
    has_savepoints: Arc<AtomicBool>,
}

impl Confined {
    pub(super) fn new(mut connection: Connection) -> Result<Self, Error> {
        let is_inside = Arc::new(AtomicBool::new(false));
        let has_savepoints = Arc::new(AtomicBool::new(false));
        let (inside, savepoints) = (Arc::clone(&is_inside), Arc::clone(&has_savepoints));
        connection
            .authorizer(Some(move |context: AuthContext<'_>| {
                if !inside.load(Ordering::Relaxed) {
                    return Authorization::Allow;
                }
                if matches!(context.action, AuthAction::Savepoint { .. }) {
                    savepoints.store(true, Ordering::Relaxed);
                }
                if is_forbidden(&context.action) {
                    Authorization::Deny
                } else {
                    Authorization::Allow
                }
            }))
            .map_err(sql("confine a connection"))?;
        Ok(Self {
            connection,
            is_inside,
            has_savepoints,
        })
    }

    /// Returns whether a caller's function ever prepared a savepoint of its own, which it may have
    /// left open or may open again from the statement cache.
    pub(super) fn has_savepoints(&self) -> bool {
        self.has_savepoints.load(Ordering::Relaxed)
    }

    /// Runs a caller's function; `None` if it panicked.
    pub(super) fn inside<T>(&self, run: impl FnOnce(&Connection) -> T) -> Option<T> {
        self.is_inside.store(true, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| run(&self.connection)));
        self.is_inside.store(false, Ordering::Relaxed);
        result.ok()
    }

    /// Runs a statement of the store itself. It is prepared anew, since what is in the statement
    /// cache could be run by callers unchecked.
    pub(super) fn control(&self, statement: &str, operation: &'static str) -> Result<(), Error> {
        self.connection
            .execute_batch(statement)
            .map_err(sql(operation))
    }
}

fn is_forbidden(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Transaction { .. } | AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            true
        }
        AuthAction::Savepoint { savepoint_name, .. } => {
            savepoint_name.eq_ignore_ascii_case(SAVEPOINT)
        }
        AuthAction::Pragma {
            pragma_name,
            pragma_value: Some(_),
        } => SETTINGS_FIXED
            .iter()
            .any(|fixed| fixed.eq_ignore_ascii_case(pragma_name)),
        _ => false,
    }
}

/// Opens a connection with the store's settings and checks that they took effect, since SQLite
/// ignores a setting it cannot read.
fn connect(config: &Config) -> Result<Connection, Error> {
    if config.path.is_dir() {
        return Err(Error::open(&config.path, "it is a directory"));
    }
    // Without the URI flag a path is only ever a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&config.path, flags)
        .map_err(|source| Error::open(&config.path, source))?;
    connection
        .busy_timeout(Config::BUSY_TIMEOUT)
        .map_err(sql("set the time limit for locks"))?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    let (synchronous, expected) = config.durability.pragma();
    let settings = format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA foreign_keys=ON;
         PRAGMA temp_store=MEMORY; PRAGMA secure_delete=ON; PRAGMA trusted_schema=OFF;
         PRAGMA journal_size_limit={LOG_BYTES_KEPT}; PRAGMA wal_autocheckpoint={LOG_PAGES};
         PRAGMA cache_size=-{PAGES_KIB};"
    );
    connection
        .execute_batch(&settings)
        .map_err(sql("apply the store's settings"))?;
    let effective: i64 = setting(&connection, "synchronous")?;
    let mode: String = setting(&connection, "journal_mode")?;
    if effective != expected || mode != "wal" {
        let found = format!("synchronous={effective} journal_mode={mode}");
        return Err(Error::internal("apply the store's settings", found));
    }
    Ok(connection)
}

fn setting<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<T, Error> {
    connection
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        .map_err(sql("read the store's settings"))
}

/// Marks an empty file as a store and refuses a database of another program.
fn adopt(connection: &Connection) -> Result<(), Error> {
    // In this order: a shared opener that creates tables has marked the file before.
    let n_tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sql("read the schema"))?;
    let id: i32 = setting(connection, "application_id")?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    if id != 0 || n_tables != 0 {
        return Err(Error::damaged(
            "it is a database of another program".to_owned(),
        ));
    }
    connection
        .execute_batch(&format!("PRAGMA application_id={APPLICATION_ID}"))
        .map_err(sql("mark the file as a store"))
}

/// Takes `<path>.lock`: alone, or together with other shared openers.
fn take_lock(config: &Config) -> Result<File, Error> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path(&config.path))
        .map_err(|source| Error::open_io(&config.path, source))?;
    let taken = if config.is_shared {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    match taken {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: config.path.clone(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::open_io(&config.path, source)),
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
