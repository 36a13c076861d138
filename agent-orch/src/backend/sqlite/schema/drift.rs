//! What steps did that are done anew.

pub(in crate::backend::sqlite) const DRIFT: &str = "
-- The undo actions of steps that were forgotten, by the audit record of their intent.
CREATE TABLE orch_undo_aside (
    task BLOB NOT NULL,
    intent INTEGER NOT NULL,
    round INTEGER NOT NULL,
    stage TEXT NOT NULL,
    name TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    class TEXT NOT NULL,
    effect TEXT NOT NULL,
    on_end INTEGER NOT NULL,
    key TEXT NOT NULL,
    outcome TEXT,
    PRIMARY KEY (task, intent)
) STRICT, WITHOUT ROWID;
";
