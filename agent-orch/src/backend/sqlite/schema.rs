//! The tables of this crate.

mod agents;
mod audit;
mod drift;
mod outbox;
mod queue;
mod schedules;
mod trees;
mod undo;
mod waits;

/// The migrations, one per version.
pub(super) const STEPS: &[&str] = &[
    V1,
    V2,
    undo::UNDO,
    waits::WAITS,
    queue::QUEUE,
    trees::TREES,
    schedules::SCHEDULES,
    outbox::OUTBOX,
    audit::AUDIT,
    agents::AGENTS,
    drift::DRIFT,
];

const V1: &str = "
CREATE TABLE orch_run (
    id BLOB PRIMARY KEY,
    subject TEXT NOT NULL,
    spec TEXT NOT NULL,
    meta TEXT NOT NULL,
    durability TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX orch_run_open ON orch_run(subject) WHERE ended_ms IS NULL;

CREATE TABLE orch_task (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    run BLOB NOT NULL,
    key TEXT NOT NULL,
    input TEXT NOT NULL,
    stage TEXT NOT NULL,
    status TEXT NOT NULL,
    pool TEXT NOT NULL,
    home TEXT NOT NULL,
    priority INTEGER NOT NULL,
    round INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    author BLOB,
    avoid BLOB,
    output TEXT,
    feedback TEXT NOT NULL DEFAULT '[]',
    failures TEXT NOT NULL DEFAULT '{}',
    failure TEXT,
    fence INTEGER NOT NULL DEFAULT 0,
    owner BLOB,
    lease_ms INTEGER,
    not_before_ms INTEGER,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX orch_task_ready ON orch_task(run, pool, priority, seq) WHERE status = 'ready';
CREATE INDEX orch_task_delayed ON orch_task(not_before_ms) WHERE status = 'delayed';
CREATE INDEX orch_task_leased ON orch_task(lease_ms) WHERE status = 'leased';

-- Counted as tasks move, so that a progress display costs nothing.
CREATE TABLE orch_count (
    run BLOB NOT NULL,
    stage TEXT NOT NULL,
    status TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (run, stage, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE orch_step (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    digest BLOB NOT NULL,
    state TEXT NOT NULL,
    n_try INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    intent INTEGER NOT NULL,
    is_held INTEGER NOT NULL,
    outcome TEXT,
    PRIMARY KEY (task, round, stage, name, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE orch_request (
    id BLOB PRIMARY KEY,
    run BLOB NOT NULL,
    task BLOB NOT NULL,
    body TEXT NOT NULL,
    deadline_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    answer TEXT,
    answered_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX orch_request_open ON orch_request(run, created_ms) WHERE answer IS NULL;
CREATE INDEX orch_request_task ON orch_request(task) WHERE answer IS NULL;
CREATE INDEX orch_request_due ON orch_request(deadline_ms) WHERE answer IS NULL;

CREATE TABLE orch_event (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    code TEXT NOT NULL,
    actor TEXT NOT NULL,
    run BLOB,
    task BLOB,
    fence INTEGER,
    cause INTEGER,
    payload BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX orch_event_task ON orch_event(task, seq) WHERE task IS NOT NULL;
CREATE TABLE orch_payload (
    hash BLOB PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- The end of the chain, so that records cut off at the end are missed.
CREATE TABLE orch_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
";

const V2: &str = "
-- How often something a task may wait for has happened; a wake-up between looking and parking is
-- seen by comparing it.
ALTER TABLE orch_task ADD COLUMN wakes INTEGER NOT NULL DEFAULT 0;
";
