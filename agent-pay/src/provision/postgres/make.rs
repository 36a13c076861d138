//! The statements that make, open, close and remove a database with its role.

use agent_core::{ExposeSecret, Secret};
use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::fault::db;
use super::{MARK, PostgresDatabases};
use crate::error::{Error, Result};
use crate::provision::{Blocker, BlockerCode, Plan};

/// What the names of databases that were made ahead have behind the prefix: a `-`, which no
/// resource's name has.
const WARM: &str = "-warm-";
/// The random bytes of a password.
const PASSWORD_BYTES: usize = 32;
/// How many databases made ahead are tried when others take them at the same time.
const CLAIMS_MAX: usize = 8;

impl PostgresDatabases {
    /// Lists the databases that were made or begun here for resources: their roles are first.
    pub(super) async fn names(&self, client: &Object) -> Result<Vec<String>> {
        let statement = "SELECT r.rolname FROM pg_roles r JOIN pg_shdescription s \
             ON s.objoid = r.oid AND s.classoid = 'pg_authid'::regclass \
             WHERE s.description = $1 AND starts_with(r.rolname, $2) AND r.rolname NOT LIKE '%-%' \
             ORDER BY r.rolname";
        self.marked(client, statement).await
    }

    /// Lists the databases that were made ahead and are finished.
    pub(super) async fn warm(&self, client: &Object) -> Result<Vec<String>> {
        let statement = "SELECT d.datname FROM pg_database d JOIN pg_shdescription s \
             ON s.objoid = d.oid AND s.classoid = 'pg_database'::regclass \
             WHERE s.description = $1 AND starts_with(d.datname, $2) AND d.datname LIKE '%-warm-%' \
             ORDER BY d.datname";
        self.marked(client, statement).await
    }

    async fn marked(&self, client: &Object, statement: &str) -> Result<Vec<String>> {
        let values: [&(dyn ToSql + Sync); 2] = [&MARK, &self.settings.prefix];
        let rows = client.query(statement, &values).await;
        let rows = rows.map_err(db("list databases"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Makes a database with its role, or finishes one: nobody can connect to it yet.
    pub(super) async fn make_closed(&self, client: &Object, database: &str) -> Result<()> {
        let name = Self::quoted(database);
        // One message is one transaction: the role is marked from its first moment. As its member,
        // this role may end its sessions and give it what it owns.
        let role = format!(
            "CREATE ROLE {name} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
             NOBYPASSRLS; COMMENT ON ROLE {name} IS '{MARK}'; GRANT {name} TO CURRENT_USER"
        );
        let made = client.batch_execute(&role).await;
        unless_there(made, &SqlState::DUPLICATE_OBJECT).map_err(db("create a role"))?;
        let ours = "SELECT shobj_description(oid, 'pg_authid') IS NOT DISTINCT FROM $2 \
             AND NOT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datdba <> r.oid) \
             FROM pg_roles r WHERE rolname = $1";
        let values: [&(dyn ToSql + Sync); 2] = [&database, &MARK];
        let row = client.query_opt(ours, &values).await;
        if !row
            .map_err(db("look at a role"))?
            .is_some_and(|row| row.get(0))
        {
            return Err(Error::blocked(vec![taken(database)]));
        }
        let create = format!(
            "CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8' \
             STRATEGY wal_log ALLOW_CONNECTIONS false"
        );
        let made = client.batch_execute(&create).await;
        unless_there(made, &SqlState::DUPLICATE_DATABASE).map_err(db("create a database"))?;
        let own = format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC; COMMENT ON DATABASE {name} IS '{MARK}'"
        );
        client
            .batch_execute(&own)
            .await
            .map_err(db("close a database to others"))
    }

    /// Finishes what a call that was cut off began to make ahead.
    pub(super) async fn finish_warm(&self, client: &Object) -> Result<()> {
        let statement = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1) \
             AND NOT EXISTS (SELECT FROM pg_database d JOIN pg_shdescription s \
             ON s.objoid = d.oid AND s.classoid = 'pg_database'::regclass \
             WHERE d.datname = rolname AND s.description = $2)";
        let prefix = format!("{}{WARM}", self.settings.prefix);
        let values: [&(dyn ToSql + Sync); 2] = [&prefix, &MARK];
        let rows = client.query(statement, &values).await;
        for row in rows.map_err(db("list what was begun"))? {
            self.make_closed(client, row.get(0)).await?;
        }
        Ok(())
    }

    /// Gives a database that was made ahead another name, with its role, in one transaction.
    /// Returns whether there was one; if the database is there already, there is nothing to take.
    pub(super) async fn claim(&self, client: &Object, database: &str) -> Result<bool> {
        if self.settings.n_warm == 0 {
            return Ok(false);
        }
        let warm = self.warm(client).await?;
        let to = Self::quoted(database);
        for from in warm.iter().take(CLAIMS_MAX) {
            let from = Self::quoted(from);
            let rename = format!(
                "BEGIN; ALTER DATABASE {from} RENAME TO {to}; ALTER ROLE {from} RENAME TO {to}; \
                 COMMIT"
            );
            let Err(error) = client.batch_execute(&rename).await else {
                return Ok(true);
            };
            let is_there = error.code() == Some(&SqlState::DUPLICATE_DATABASE)
                || error.code() == Some(&SqlState::DUPLICATE_OBJECT);
            let is_of_server = error.as_db_error().is_some();
            if is_of_server {
                let undone = client.batch_execute("ROLLBACK").await;
                undone.map_err(db("undo a claim"))?;
            }
            if is_there {
                return Ok(false);
            }
            if !is_of_server {
                return Err(db("take a database made ahead")(error));
            }
        }
        Ok(false)
    }

    /// Lets the role in, within the sessions of its plan, with a password if there is a new one.
    pub(super) async fn open_to(
        &self,
        client: &Object,
        database: &str,
        plan: &Plan,
        password: Option<&Secret>,
    ) -> Result<()> {
        let name = Self::quoted(database);
        let n_sessions = plan.sessions_max.map_or(-1, i64::from);
        let verifier = password.map_or_else(String::new, |password| {
            let password = password.expose_secret().as_bytes();
            let verifier = postgres_protocol::password::scram_sha_256(password);
            format!(" PASSWORD '{verifier}'")
        });
        let open = format!(
            "BEGIN; ALTER ROLE {name} LOGIN CONNECTION LIMIT {n_sessions}{verifier}; \
             ALTER DATABASE {name} ALLOW_CONNECTIONS true; COMMIT"
        );
        let opened = client.batch_execute(&open).await;
        if opened.as_ref().is_err_and(|e| e.as_db_error().is_some()) {
            let undone = client.batch_execute("ROLLBACK").await;
            undone.map_err(db("undo an opening"))?;
        }
        opened.map_err(db("open a database"))
    }

    /// Lets nobody in and ends idle sessions; returns whether nobody was at work.
    pub(super) async fn close(&self, client: &Object, database: &str) -> Result<bool> {
        let name = Self::quoted(database);
        let close =
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false; ALTER ROLE {name} NOLOGIN");
        client
            .batch_execute(&close)
            .await
            .map_err(db("close a database"))?;
        let working =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state <> 'idle'";
        let row = client.query_one(working, &[&database]).await;
        let n_working: i64 = row.map_err(db("count sessions"))?.get(0);
        if n_working > 0 {
            return Ok(false);
        }
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1";
        client
            .execute(end, &[&database])
            .await
            .map_err(db("end idle sessions"))?;
        Ok(true)
    }

    /// Removes a database with its sessions and its role. One that was not made here stays.
    pub(super) async fn remove(&self, client: &Object, database: &str) -> Result<()> {
        let ours = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datdba = r.oid) \
             FROM pg_roles r WHERE rolname = $1 AND shobj_description(oid, 'pg_authid') = $2";
        let values: [&(dyn ToSql + Sync); 2] = [&database, &MARK];
        let row = client.query_opt(ours, &values).await;
        let Some(row) = row.map_err(db("look at a role"))? else {
            return Ok(());
        };
        let name = Self::quoted(database);
        if row.get(0) {
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let dropped = client.batch_execute(&drop).await;
            dropped.map_err(db("drop a database"))?;
        }
        client
            .batch_execute(&format!("DROP ROLE IF EXISTS {name}"))
            .await
            .map_err(db("drop a role"))
    }

    pub(super) fn warm_name(&self) -> String {
        let mut bytes = [0_u8; 8];
        self.entropy.fill(&mut bytes);
        format!("{}{WARM}{}", self.settings.prefix, hex(&bytes))
    }

    pub(super) fn password(&self) -> Secret {
        let mut bytes = [0_u8; PASSWORD_BYTES];
        self.entropy.fill(&mut bytes);
        hex(&bytes).into()
    }

    /// Writes the address as libpq and its relatives read it.
    pub(super) fn url(&self, database: &str, password: &Secret) -> String {
        let host: String = self.settings.host.bytes().map(encoded).collect();
        let (port, password) = (self.settings.port, password.expose_secret());
        format!("postgresql://{database}:{password}@{host}:{port}/{database}")
    }
}

pub(super) fn taken(database: &str) -> Blocker {
    Blocker::new(
        BlockerCode::NameTaken,
        format!("another database or role is called {database}"),
        "choose another name",
    )
}

/// Forgives that what was to be made is there.
fn unless_there(
    made: Result<(), tokio_postgres::Error>,
    code: &SqlState,
) -> Result<(), tokio_postgres::Error> {
    match made {
        Err(error) if error.code() == Some(code) => Ok(()),
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a byte of a host's name as an address may have it (RFC 3986).
fn encoded(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}
