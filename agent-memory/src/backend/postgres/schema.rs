//! The tables: those of the SQLite backend, with the partition in every row, so that row-level
//! security can be a second wall behind the partition in every statement.
//!
//! Texts and reasons are `BYTEA`: the type `TEXT` has no U+0000, and a remembered text may. The
//! columns that hold what may have to be erased are kept out of the planner's statistics, which
//! would be copies.

use agent_core::Embedder;
use deadpool_postgres::Client;

use super::fault::{db, unsupported};
use super::rows::get;
use crate::error::{Error, Result};

/// Migrations take turns by this advisory lock.
const LOCK: i64 = 0x6167_656e_745f_6d65;

/// The steps from an empty schema to the present tables.
const STEPS: &[&str] = &[
    "
CREATE SEQUENCE memory_change_seq;
CREATE TABLE memory_partition (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT NOT NULL,
    namespace TEXT NOT NULL,
    last_seq BIGINT NOT NULL DEFAULT 0,
    UNIQUE (tenant, namespace)
);
CREATE TABLE memory_space (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    dimensions BIGINT NOT NULL
);
CREATE TABLE memory_change (
    seq BIGINT PRIMARY KEY,
    partition BIGINT NOT NULL REFERENCES memory_partition (id),
    id BYTEA,
    verb TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason BYTEA,
    valid_to_ms BIGINT,
    successor BYTEA
);
CREATE INDEX memory_change_by_partition ON memory_change (partition, seq);
CREATE INDEX memory_change_by_id ON memory_change (partition, id);
CREATE INDEX memory_change_by_successor ON memory_change (partition, successor)
    WHERE successor IS NOT NULL;
CREATE TABLE memory_entry (
    seq BIGINT PRIMARY KEY REFERENCES memory_change (seq),
    partition BIGINT NOT NULL REFERENCES memory_partition (id),
    id BYTEA NOT NULL,
    kind TEXT NOT NULL,
    text BYTEA NOT NULL,
    metadata TEXT NOT NULL,
    thread TEXT,
    occurred_ms BIGINT NOT NULL,
    recorded_ms BIGINT NOT NULL,
    valid_from_ms BIGINT NOT NULL,
    valid_to_ms BIGINT,
    superseded_by BYTEA,
    actor TEXT NOT NULL,
    channel TEXT,
    trust BIGINT NOT NULL,
    space BIGINT REFERENCES memory_space (id),
    scale DOUBLE PRECISION,
    vector BYTEA,
    UNIQUE (partition, id)
);
CREATE INDEX memory_entry_by_partition ON memory_entry (partition, seq);
CREATE TABLE memory_source (
    partition BIGINT NOT NULL REFERENCES memory_partition (id),
    entry BIGINT NOT NULL REFERENCES memory_entry (seq),
    source BIGINT NOT NULL REFERENCES memory_entry (seq),
    PRIMARY KEY (entry, source)
);
CREATE INDEX memory_source_by_source ON memory_source (source);
CREATE TABLE memory_key (
    partition BIGINT NOT NULL REFERENCES memory_partition (id),
    digest BYTEA NOT NULL,
    id BYTEA NOT NULL,
    content BYTEA,
    PRIMARY KEY (partition, digest)
);
CREATE INDEX memory_key_by_id ON memory_key (partition, id);
CREATE TABLE memory_relation (
    seq BIGINT PRIMARY KEY REFERENCES memory_change (seq),
    partition BIGINT NOT NULL REFERENCES memory_partition (id),
    from_node TEXT NOT NULL,
    label TEXT NOT NULL,
    to_node TEXT NOT NULL,
    weight DOUBLE PRECISION NOT NULL,
    valid_from_ms BIGINT NOT NULL,
    valid_to_ms BIGINT,
    known_from_ms BIGINT NOT NULL,
    known_to_ms BIGINT
);
CREATE UNIQUE INDEX memory_relation_known ON memory_relation
    (partition, from_node, label, to_node, valid_from_ms) WHERE known_to_ms IS NULL;
CREATE INDEX memory_relation_by_partition ON memory_relation (partition, seq);
CREATE INDEX memory_relation_by_start ON memory_relation (partition, from_node);
CREATE INDEX memory_relation_by_end ON memory_relation (partition, to_node);

ALTER TABLE memory_change ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE memory_entry ALTER COLUMN text SET STATISTICS 0,
    ALTER COLUMN metadata SET STATISTICS 0, ALTER COLUMN thread SET STATISTICS 0,
    ALTER COLUMN channel SET STATISTICS 0, ALTER COLUMN vector SET STATISTICS 0;
ALTER TABLE memory_key ALTER COLUMN content SET STATISTICS 0;
ALTER TABLE memory_relation ALTER COLUMN from_node SET STATISTICS 0,
    ALTER COLUMN label SET STATISTICS 0, ALTER COLUMN to_node SET STATISTICS 0;

ALTER TABLE memory_partition ENABLE ROW LEVEL SECURITY;
ALTER TABLE memory_partition FORCE ROW LEVEL SECURITY;
CREATE POLICY memory_wall ON memory_partition
    USING (tenant = current_setting('agent_memory.tenant', true));
DO $wall$
DECLARE walled TEXT;
BEGIN
    FOREACH walled IN ARRAY ARRAY['memory_change', 'memory_entry', 'memory_source', 'memory_key',
        'memory_relation']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', walled);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', walled);
        EXECUTE format('CREATE POLICY memory_wall ON %I USING (partition =
            nullif(current_setting(''agent_memory.partition'', true), '''')::bigint)', walled);
    END LOOP;
END
$wall$;
",
    "
ALTER TABLE memory_partition ADD COLUMN near_space BIGINT, ADD COLUMN near_seq BIGINT;
",
    "
ALTER TABLE memory_entry ADD COLUMN embedded_seq BIGINT;
CREATE INDEX memory_entry_by_embedding ON memory_entry (partition, embedded_seq)
    WHERE embedded_seq IS NOT NULL;
",
];

/// Brings the tables of the connection's schema up to date; one process at a time.
pub(super) async fn migrate(client: &mut Client) -> Result<()> {
    let tx = client.transaction().await.map_err(db("begin"))?;
    let encoding = tx
        .query_one("SHOW server_encoding", &[])
        .await
        .and_then(|row| row.try_get::<_, String>(0))
        .map_err(db("read the encoding"))?;
    if encoding != "UTF8" {
        return Err(unsupported("its encoding is not UTF8"));
    }
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await
        .map_err(db("wait for a migration"))?;
    let is_new = tx
        .query_one("SELECT to_regclass('memory_schema') IS NULL", &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(db("look for the tables"))?;
    if is_new {
        tx.batch_execute(
            "CREATE TABLE memory_schema (version BIGINT NOT NULL);
             INSERT INTO memory_schema VALUES (0)",
        )
        .await
        .map_err(db("create the tables"))?;
    }
    let found = tx
        .query_one("SELECT version FROM memory_schema", &[])
        .await
        .and_then(|row| row.try_get::<_, i64>(0))
        .map_err(db("read the version of the tables"))?;
    let n_done = usize::try_from(found)
        .ok()
        .filter(|n_done| *n_done <= STEPS.len())
        .ok_or_else(|| unsupported("a later version of this program wrote its tables"))?;
    for step in STEPS.iter().skip(n_done) {
        tx.batch_execute(step)
            .await
            .map_err(db("create the tables"))?;
    }
    if n_done < STEPS.len() {
        let version = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
        tx.execute("UPDATE memory_schema SET version = $1", &[&version])
            .await
            .map_err(db("record the version of the tables"))?;
    }
    tx.commit().await.map_err(db("commit the tables"))
}

/// Returns the number of the embedder's vector space.
pub(super) async fn register_space(client: &Client, embedder: &dyn Embedder) -> Result<i64> {
    let dimensions = i64::try_from(embedder.dimensions())
        .map_err(|_too_large| Error::invalid("embedder", "its vectors are too long"))?;
    let name = embedder.space();
    client
        .execute(
            "INSERT INTO memory_space (name, dimensions) VALUES ($1, $2)
             ON CONFLICT (name) DO NOTHING",
            &[&name, &dimensions],
        )
        .await
        .map_err(db("register a vector space"))?;
    let row = client
        .query_one(
            "SELECT id, dimensions FROM memory_space WHERE name = $1",
            &[&name],
        )
        .await
        .map_err(db("find a vector space"))?;
    if get::<i64>(&row, 1)? == dimensions {
        get(&row, 0)
    } else {
        Err(Error::corrupt("a vector space has another length"))
    }
}
