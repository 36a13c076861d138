//! A temporary PostgreSQL cluster of the machine's own server, with passwords checked as on a real
//! one. It ends with this process, however that ends: a shell at the other end of a pipe stops it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::NoTls;

/// The role the provisioner connects as: no superuser.
pub(crate) const ROLE: &str = "landlord";
/// A role that may nothing.
pub(crate) const POOR: &str = "poor";
pub(crate) const SUPERUSER: &str = "postgres";
pub(crate) const PORT: u16 = 5_432;

pub(crate) struct Cluster {
    dir: PathBuf,
    n_prefixes: AtomicUsize,
}

static SHARED: LazyLock<Option<Cluster>> = LazyLock::new(|| {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    versions.sort();
    Some(Cluster::start(&versions.pop()?))
});

/// Runs a program as a user that the server agrees to run as: it refuses root.
fn command(program: &Path) -> Command {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0);
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    command.arg(program);
    command
}

impl Cluster {
    pub(crate) fn shared() -> Option<&'static Self> {
        if SHARED.is_none() {
            eprintln!("SKIPPED: there is no PostgreSQL server here");
        }
        SHARED.as_ref()
    }

    fn start(bin: &Path) -> Self {
        let dir = tempfile::TempDir::with_prefix("agent-pay-pg")
            .unwrap()
            .keep();
        let _as_user = Command::new("chown")
            .arg("postgres:postgres")
            .arg(&dir)
            .status();
        let data = dir.join("data");
        let mut initdb = command(&bin.join("initdb"));
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb
            .args(["--username", SUPERUSER, "--pgdata"])
            .arg(&data);
        assert!(initdb.stdout(Stdio::null()).status().unwrap().success());
        // The host's own roles come in over the socket; everybody else shows a password.
        let rules =
            format!("local all {SUPERUSER},{ROLE},{POOR} trust\nlocal all all scram-sha-256\n");
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        // Durable as on a real server where the speed is measured.
        let fsync = std::env::var_os("AGENT_PAY_PG_FSYNC").map_or("off", |_| "on");
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync={fsync} \
             -c shared_buffers=64MB -c max_connections=200 -c autovacuum=off",
            dir.display()
        );
        let mut pg_ctl = command(&bin.join("pg_ctl"));
        pg_ctl
            .args(["--wait", "--silent", "--log"])
            .arg(dir.join("log"));
        pg_ctl
            .arg("--pgdata")
            .arg(&data)
            .args(["--options", &options, "start"]);
        pg_ctl.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(pg_ctl.status().unwrap().success());
        Self::stop_with_this_process(bin, &dir);
        let mut psql = command(&bin.join("psql"));
        psql.args(["-q", "-U", SUPERUSER, "-d", "postgres", "-h"])
            .arg(&dir);
        psql.arg("-c").arg(format!(
            "CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE; CREATE ROLE {POOR} LOGIN"
        ));
        assert!(psql.status().unwrap().success());
        let n_prefixes = AtomicUsize::new(0);
        Self { dir, n_prefixes }
    }

    #[expect(clippy::zombie_processes, reason = "it outlives this process")]
    fn stop_with_this_process(bin: &Path, dir: &Path) {
        let mut guard = command(Path::new("/bin/sh"));
        let script =
            r#"cat >/dev/null; "$1" --pgdata "$2/data" --mode immediate stop; rm -rf "$2""#;
        guard
            .args(["-c", script, "sh"])
            .arg(bin.join("pg_ctl"))
            .arg(dir);
        guard.stdin(Stdio::piped());
        guard.stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = guard.spawn().unwrap();
        // Held open until this process is gone.
        std::mem::forget(guard.stdin.take());
    }

    pub(crate) fn dir(&self) -> String {
        self.dir.display().to_string()
    }

    pub(crate) fn pool(&self, role: &str) -> Pool {
        pool(&self.dir(), role)
    }

    /// A prefix nobody else of this process has.
    pub(crate) fn prefix(&self) -> String {
        let n = self.n_prefixes.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("p{n}_");
        LAST.set(prefix.clone());
        prefix
    }

    /// The prefix this thread got last.
    pub(crate) fn last_prefix(&self) -> String {
        LAST.take()
    }
}

thread_local! {
    static LAST: std::cell::Cell<String> = const { std::cell::Cell::new(String::new()) };
}

pub(crate) fn pool(dir: &str, role: &str) -> Pool {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(dir)
        .port(PORT)
        .dbname("postgres")
        .user(role);
    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(config, NoTls, manager);
    Pool::builder(manager).max_size(8).build().unwrap()
}
