//! The tables of the queue: what decides which ready task an agent gets.

/// Flows, lines and limits, and a place in them for every task that waits.
pub(super) const QUEUE: &str = "
-- The priority a task has by now: the submitted one, raised with its age.
ALTER TABLE orch_task ADD COLUMN rank INTEGER NOT NULL DEFAULT 2;
ALTER TABLE orch_task ADD COLUMN fair TEXT NOT NULL DEFAULT 'default';
-- A sorted JSON list of limit keys; empty for none.
ALTER TABLE orch_task ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE orch_task ADD COLUMN estimate TEXT;
ALTER TABLE orch_task ADD COLUMN line INTEGER;
ALTER TABLE orch_task ADD COLUMN rises_ms INTEGER;
UPDATE orch_task SET rank = priority;

-- What a run says about its queue.
CREATE TABLE orch_queue (
    run BLOB PRIMARY KEY,
    age_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE orch_weight (
    run BLOB NOT NULL,
    fair TEXT NOT NULL,
    weight INTEGER NOT NULL,
    PRIMARY KEY (run, fair)
) STRICT, WITHOUT ROWID;

-- A priority of a pool. Its virtual time is the start of the latest claim.
CREATE TABLE orch_level (
    run BLOB NOT NULL,
    pool TEXT NOT NULL,
    rank INTEGER NOT NULL,
    vtime INTEGER NOT NULL,
    n_open INTEGER NOT NULL,
    PRIMARY KEY (run, pool, rank)
) STRICT, WITHOUT ROWID;

-- A fairness key within a level. Its virtual time is the start of its next claim.
CREATE TABLE orch_flow (
    id INTEGER PRIMARY KEY,
    run BLOB NOT NULL,
    pool TEXT NOT NULL,
    rank INTEGER NOT NULL,
    fair TEXT NOT NULL,
    vtime INTEGER NOT NULL,
    n_open INTEGER NOT NULL,
    UNIQUE (run, pool, rank, fair)
) STRICT;
CREATE INDEX orch_flow_open ON orch_flow(run, pool, rank, vtime) WHERE n_open > 0;

-- The tasks of a flow that the same agents may take under the same limits, oldest first.
CREATE TABLE orch_line (
    id INTEGER PRIMARY KEY,
    flow INTEGER NOT NULL,
    limits TEXT NOT NULL,
    not_for BLOB NOT NULL,
    n_ready INTEGER NOT NULL,
    n_blocked INTEGER NOT NULL,
    head INTEGER NOT NULL,
    UNIQUE (flow, limits, not_for)
) STRICT;
CREATE INDEX orch_line_open ON orch_line(flow, head) WHERE n_ready > 0 AND n_blocked = 0;

-- A concurrency limit of the whole data directory and how many leases count against it.
CREATE TABLE orch_limit (
    key TEXT PRIMARY KEY,
    concurrency INTEGER,
    in_use INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE orch_limit_line (
    key TEXT NOT NULL,
    line INTEGER NOT NULL,
    PRIMARY KEY (key, line)
) STRICT, WITHOUT ROWID;

INSERT INTO orch_level SELECT run, pool, rank, 0, count(*) FROM orch_task
    WHERE status = 'ready' GROUP BY run, pool, rank;
INSERT INTO orch_flow(run, pool, rank, fair, vtime, n_open)
    SELECT run, pool, rank, fair, 0, count(*) FROM orch_task
    WHERE status = 'ready' GROUP BY run, pool, rank, fair;
INSERT INTO orch_line(flow, limits, not_for, n_ready, n_blocked, head)
    SELECT f.id, '', coalesce(iif(t.stage = 'verify', t.author, t.avoid), x''), count(*), 0, min(seq)
    FROM orch_task t JOIN orch_flow f
        ON (f.run, f.pool, f.rank, f.fair) = (t.run, t.pool, t.rank, t.fair)
    WHERE t.status = 'ready' GROUP BY 1, 3;
UPDATE orch_task SET line = (
    SELECT l.id FROM orch_flow f JOIN orch_line l ON l.flow = f.id
    WHERE (f.run, f.pool, f.rank, f.fair)
            = (orch_task.run, orch_task.pool, orch_task.rank, orch_task.fair)
        AND l.not_for = coalesce(iif(stage = 'verify', author, avoid), x''))
    WHERE status = 'ready';

DROP INDEX orch_task_ready;
CREATE INDEX orch_task_line ON orch_task(line) WHERE status = 'ready';
CREATE INDEX orch_task_rises ON orch_task(rises_ms) WHERE status = 'ready' AND rank > 0;
CREATE INDEX orch_task_held ON orch_task(run) WHERE status = 'leased';
";
