//! A curator on a database that is killed while it decides.

use std::process::{Command, Stdio};
use std::sync::Arc;

use agent_memory::conformance::Bench;

use super::cluster::{self, ROLE};
use super::shared::{DATABASE, SOCKET};
use super::{database, killed, open};

#[tokio::test]
#[ignore = "the child process of a_killed_curator_leaves_whole_decisions_in_a_database"]
async fn curate_until_killed() {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(std::env::var_os(SOCKET).unwrap())
        .user(ROLE);
    config.dbname(std::env::var_os(DATABASE).unwrap().to_str().unwrap());
    let store = open(cluster::pool(config)).await;
    killed::curate_until_killed(&Bench::new(), Arc::new(store)).await;
}

#[tokio::test]
async fn a_killed_curator_leaves_whole_decisions_in_a_database() {
    let Some(database) = database().await else {
        return;
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "curation::curate_until_killed", "--ignored"])
        .arg("--nocapture")
        .env(SOCKET, database.cluster.dir())
        .env(DATABASE, &database.name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let n_acknowledged = killed::killed(child, output);
    let store = open(database.pool()).await;
    killed::is_whole(Arc::new(store), n_acknowledged).await;
}
