//! The tables of waits and signals.

pub(super) const WAITS: &str = "
-- A wait is a step; what its sources are and when they are due is fixed by the first look.
CREATE TABLE orch_wait (
    id BLOB PRIMARY KEY,
    run BLOB NOT NULL,
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    digest BLOB NOT NULL,
    sources TEXT NOT NULL,
    due_ms INTEGER,
    -- Whether the task was woken because the moment came.
    is_rung INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'open',
    answer TEXT,
    answered_ms INTEGER,
    outcome TEXT,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX orch_wait_task ON orch_wait(task) WHERE state = 'open';
CREATE INDEX orch_wait_run ON orch_wait(run, due_ms) WHERE state = 'open';
CREATE INDEX orch_wait_due ON orch_wait(due_ms) WHERE state = 'open' AND is_rung = 0;

CREATE TABLE orch_signal (
    task BLOB NOT NULL,
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    sender TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    -- The wait that took it.
    wait BLOB,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX orch_signal_key ON orch_signal(task, key);
CREATE INDEX orch_signal_unread ON orch_signal(task, name, seq) WHERE wait IS NULL;
";
