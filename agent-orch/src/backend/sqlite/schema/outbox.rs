//! The table of messages that were not delivered yet.

pub(super) const OUTBOX: &str = "
CREATE TABLE orch_outbox (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    run BLOB NOT NULL,
    task BLOB NOT NULL,
    topic TEXT NOT NULL,
    key TEXT,
    payload TEXT NOT NULL,
    -- Whether no older message of its topic and key is left: only such are delivered.
    is_head INTEGER NOT NULL,
    is_dead INTEGER NOT NULL DEFAULT 0,
    n_try INTEGER NOT NULL DEFAULT 0,
    not_before_ms INTEGER NOT NULL,
    -- The question about a dead letter.
    request BLOB,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX orch_outbox_due ON orch_outbox(run, not_before_ms, seq)
    WHERE is_head = 1 AND is_dead = 0;
CREATE INDEX orch_outbox_order ON orch_outbox(run, topic, key, seq) WHERE key IS NOT NULL;
CREATE INDEX orch_outbox_request ON orch_outbox(request) WHERE request IS NOT NULL;
";
