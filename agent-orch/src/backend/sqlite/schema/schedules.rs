//! The table of schedules.

pub(super) const SCHEDULES: &str = "
CREATE TABLE orch_schedule (
    run BLOB NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    is_of_manifest INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    last_ms INTEGER,
    n_fired INTEGER NOT NULL DEFAULT 0,
    n_skipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX orch_schedule_due ON orch_schedule(run, next_ms);
";
