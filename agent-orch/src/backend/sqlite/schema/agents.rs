//! The registry of agents.

pub(in crate::backend::sqlite) const AGENTS: &str = "
CREATE TABLE orch_agent (
    id BLOB PRIMARY KEY,
    did TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    pool TEXT NOT NULL,
    owner TEXT,
    purpose TEXT,
    version BLOB NOT NULL,
    grants TEXT NOT NULL,
    state TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    active_ms INTEGER NOT NULL,
    restarts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX orch_agent_pool ON orch_agent(pool);
";
