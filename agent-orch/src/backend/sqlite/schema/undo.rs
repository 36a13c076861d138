//! What recovery keeps of a task, and the undo actions of its steps.

pub(in crate::backend::sqlite) const UNDO: &str = "
ALTER TABLE orch_task ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orch_task ADD COLUMN choices TEXT NOT NULL DEFAULT '{}';
ALTER TABLE orch_task ADD COLUMN ends_as TEXT;

CREATE TABLE orch_undo (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    -- The audit record of the step's intent: what was intended later is undone earlier.
    intent INTEGER NOT NULL,
    class TEXT NOT NULL,
    effect TEXT NOT NULL,
    on_end INTEGER NOT NULL,
    PRIMARY KEY (task, round, stage, name, ordinal)
) STRICT, WITHOUT ROWID;
";
