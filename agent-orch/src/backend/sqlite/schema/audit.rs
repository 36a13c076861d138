//! Payloads by record, correlation of records, signed roots.

pub(in crate::backend::sqlite) const AUDIT: &str = "
-- The form of the hash: records that were here before have none of the columns below in it.
ALTER TABLE orch_event ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
-- The root task of the delegation, or the run of a record without a task.
ALTER TABLE orch_event ADD COLUMN correlation BLOB;

-- Appended in the order of the records, so that a commit touches few pages; a row of its own for
-- each record, so that one can be erased.
CREATE TABLE orch_body (
    seq INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
INSERT INTO orch_body
    SELECT e.seq, p.body FROM orch_event e JOIN orch_payload p ON p.hash = e.payload;
DROP TABLE orch_payload;

-- The signed roots, by the record that takes note of each.
CREATE TABLE orch_root (
    record INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    head BLOB NOT NULL,
    signer TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;
";
