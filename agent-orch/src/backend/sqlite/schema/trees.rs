//! Delegation trees, deadlines and forks.

pub(in super::super) const TREES: &str = "
-- The audit record of the submission; zero for tasks of earlier formats.
ALTER TABLE orch_task ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
-- The pool it was submitted to; null for tasks of earlier formats.
ALTER TABLE orch_task ADD COLUMN born_pool TEXT;
ALTER TABLE orch_task ADD COLUMN parent BLOB;
-- Null for a task that nobody delegated.
ALTER TABLE orch_task ADD COLUMN root BLOB;
ALTER TABLE orch_task ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orch_task ADD COLUMN is_detached INTEGER NOT NULL DEFAULT 0;
-- Whether the parent waits for its end.
ALTER TABLE orch_task ADD COLUMN is_joined INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orch_task ADD COLUMN deadline_ms INTEGER;
-- As the deadline, moved on by the time in which the task waits.
ALTER TABLE orch_task ADD COLUMN wall_ms INTEGER;
ALTER TABLE orch_task ADD COLUMN paused_from TEXT;
ALTER TABLE orch_task ADD COLUMN is_pausing INTEGER NOT NULL DEFAULT 0;
CREATE INDEX orch_task_parent ON orch_task(parent) WHERE parent IS NOT NULL;
CREATE INDEX orch_task_parked ON orch_task(id) WHERE status = 'parked';
CREATE INDEX orch_task_deadline ON orch_task(deadline_ms)
    WHERE deadline_ms IS NOT NULL
      AND status NOT IN ('completed', 'failed', 'canceled', 'rejected');
CREATE INDEX orch_task_wall ON orch_task(wall_ms)
    WHERE wall_ms IS NOT NULL AND status IN ('ready', 'delayed', 'leased');

-- What a whole delegation tree has used of its limits; only of trees that have or used any.
CREATE TABLE orch_tree (
    root BLOB PRIMARY KEY,
    retries INTEGER NOT NULL DEFAULT 0,
    retries_max INTEGER NOT NULL,
    budget TEXT,
    -- Held and settled together, in smallest units of the budget's asset.
    used INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
-- The open holds of trees that have a budget, by the key of the hold.
CREATE TABLE orch_tree_hold (
    key TEXT PRIMARY KEY,
    root BLOB NOT NULL,
    units INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE orch_run ADD COLUMN forked_from BLOB;
ALTER TABLE orch_run ADD COLUMN forked_at INTEGER;
-- The idempotency keys under which steps of a fork were in doubt before it.
CREATE TABLE orch_fork_key (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (task, round, stage, name, ordinal)
) STRICT, WITHOUT ROWID;
";
