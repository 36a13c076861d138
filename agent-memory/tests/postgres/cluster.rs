//! A temporary PostgreSQL cluster of the machine's own server, one per kind of server and test
//! binary, on a Unix socket. It ends with this process, however that ends: a shell that holds the
//! other end of a pipe stops it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The newest that is installed where Debian puts it.
    Installed,
    /// The one with pgvector, in the directory that `PGVECTOR_BIN` names.
    WithVectors,
}

/// The role the stores connect as: neither a superuser nor one that row-level security lets pass.
pub(crate) const ROLE: &str = "agent";
/// The role that may do everything.
pub(crate) const SUPERUSER: &str = "postgres";

/// A running server.
pub(crate) struct Cluster {
    dir: PathBuf,
    has_vectors: bool,
    n_databases: AtomicUsize,
}

static INSTALLED: LazyLock<Option<Cluster>> = LazyLock::new(|| {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    versions.sort();
    Some(Cluster::start(&versions.pop()?, false))
});

static WITH_VECTORS: LazyLock<Option<Cluster>> = LazyLock::new(|| {
    let bin = PathBuf::from(std::env::var_os("PGVECTOR_BIN")?);
    Some(Cluster::start(&bin, true))
});

/// A command as a user that the server agrees to run as: it refuses root.
fn command(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0)
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {message}");
}

impl Cluster {
    /// The cluster of this process, started when first asked for.
    pub(crate) fn shared(server: Server) -> Option<&'static Self> {
        let cluster = match server {
            Server::Installed => INSTALLED.as_ref(),
            Server::WithVectors => WITH_VECTORS.as_ref(),
        };
        if cluster.is_none() {
            eprintln!("SKIPPED: there is no PostgreSQL server of the kind {server:?} here");
        }
        cluster
    }

    fn start(bin: &Path, has_vectors: bool) -> Self {
        let dir = TempDir::with_prefix("agent-memory-pg").unwrap().keep();
        if is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(&dir));
        }
        let data = dir.join("data");
        run(command(&bin.join("initdb"))
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .args(["--username", SUPERUSER, "--pgdata"])
            .arg(&data));
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync=off -c shared_buffers=64MB \
             -c max_connections=200 -c autovacuum=off",
            dir.display()
        );
        let mut pg_ctl = command(&bin.join("pg_ctl"));
        pg_ctl.args(["--wait", "--silent", "--log"]);
        pg_ctl.arg(dir.join("log")).arg("--pgdata").arg(&data);
        // The server would hold these pipes open.
        pg_ctl.stdout(Stdio::null()).stderr(Stdio::null());
        let status = pg_ctl.args(["--options", &options, "start"]).status();
        let is_started = status.unwrap().success();
        let mut log = String::new();
        if let Ok(mut file) = std::fs::File::open(dir.join("log")) {
            file.read_to_string(&mut log).unwrap();
        }
        assert!(is_started, "{log}");
        Self::stop_with_this_process(bin, &dir);
        Self {
            dir,
            has_vectors,
            n_databases: AtomicUsize::new(0),
        }
    }

    #[expect(clippy::zombie_processes, reason = "it outlives this process")]
    fn stop_with_this_process(bin: &Path, dir: &Path) {
        let mut guard = command(Path::new("/bin/sh"));
        let script =
            r#"cat >/dev/null; "$1" --pgdata "$2/data" --mode immediate stop; rm -rf "$2""#;
        guard.args(["-c", script, "sh"]);
        guard.arg(bin.join("pg_ctl")).arg(dir);
        guard.stdin(Stdio::piped());
        guard.stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = guard.spawn().unwrap();
        // Held open until this process is gone.
        std::mem::forget(guard.stdin.take());
    }

    /// A database of its own for one law.
    pub(crate) async fn database(&'static self) -> Database {
        let n = self.n_databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("law_{n}");
        let admin = self.connect("postgres", SUPERUSER).await;
        // Two laws may be the first at once.
        let role = format!(
            "DO $$ BEGIN CREATE ROLE {ROLE} LOGIN;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        admin.batch_execute(&role).await.unwrap();
        let create = format!("CREATE DATABASE {name} OWNER {ROLE}");
        admin.batch_execute(&create).await.unwrap();
        let database = Database {
            cluster: self,
            name,
        };
        if self.has_vectors {
            let admin = database.admin().await;
            admin
                .batch_execute("CREATE EXTENSION vector")
                .await
                .unwrap();
        }
        database
    }

    async fn connect(&self, database: &str, user: &str) -> Client {
        let config = self.config(database, user);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        drop(tokio::task::spawn(connection));
        client
    }

    fn config(&self, database: &str, user: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.dir).dbname(database).user(user);
        config
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A database of a cluster.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) cluster: &'static Cluster,
    pub(crate) name: String,
}

impl Database {
    /// A pool of its own, as another process would have.
    pub(crate) fn pool(&self) -> Pool {
        self.pool_as(ROLE)
    }

    pub(crate) fn pool_as(&self, role: &str) -> Pool {
        pool(self.cluster.config(&self.name, role))
    }

    /// A pool whose connections pass through a socket in a directory.
    pub(crate) fn pool_through(&self, dir: &Path) -> Pool {
        let mut config = tokio_postgres::Config::new();
        pool(config.host_path(dir).dbname(&self.name).user(ROLE).clone())
    }

    pub(crate) async fn admin(&self) -> Client {
        self.cluster.connect(&self.name, SUPERUSER).await
    }

    pub(crate) async fn connect(&self) -> Client {
        self.cluster.connect(&self.name, ROLE).await
    }
}

pub(crate) fn pool(config: tokio_postgres::Config) -> Pool {
    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(config, NoTls, manager);
    Pool::builder(manager).max_size(8).build().unwrap()
}
