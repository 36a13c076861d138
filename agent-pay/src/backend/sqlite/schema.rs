//! The tables of the ledger.

/// The migrations, in order.
pub(super) const STEPS: &[&str] = &[
    "
CREATE TABLE pay_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    n_transfers INTEGER NOT NULL,
    n_accounts INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO pay_head VALUES (1, 0, 0, 0, 0, zeroblob(32));

CREATE TABLE pay_account (
    id INTEGER PRIMARY KEY,
    asset TEXT NOT NULL,
    name TEXT NOT NULL,
    guard INTEGER NOT NULL,
    opened_in INTEGER NOT NULL,
    debits_pending INTEGER NOT NULL CHECK (debits_pending >= 0),
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_pending INTEGER NOT NULL CHECK (credits_pending >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    UNIQUE (asset, name),
    CHECK (guard = 0 OR debits_pending + debits_posted <= credits_posted)
) STRICT;

CREATE TABLE pay_batch (
    seq INTEGER PRIMARY KEY,
    key TEXT UNIQUE,
    request BLOB NOT NULL CHECK (length(request) = 32),
    origin INTEGER NOT NULL,
    resolves INTEGER,
    at_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    first_transfer INTEGER NOT NULL,
    n_transfers INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE UNIQUE INDEX pay_batch_resolves ON pay_batch (resolves) WHERE resolves IS NOT NULL;

CREATE TABLE pay_transfer (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    units INTEGER NOT NULL CHECK (units >= 0),
    kind INTEGER NOT NULL,
    hold INTEGER
) STRICT;
CREATE INDEX pay_transfer_debit ON pay_transfer (debit);
CREATE INDEX pay_transfer_credit ON pay_transfer (credit);

CREATE TABLE pay_pending (
    batch INTEGER PRIMARY KEY,
    expires_ms INTEGER
) STRICT;
CREATE INDEX pay_pending_expiry ON pay_pending (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE pay_usage (
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    resource TEXT NOT NULL,
    usage TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    actor TEXT NOT NULL,
    agent TEXT,
    run TEXT,
    task TEXT,
    attempt TEXT,
    pool TEXT,
    asset TEXT,
    cost INTEGER,
    card TEXT,
    UNIQUE (source, id)
) STRICT;
CREATE INDEX pay_usage_at ON pay_usage (at_ms);
",
    "
ALTER TABLE pay_batch ADD COLUMN memo TEXT;
CREATE TABLE pay_refusal (
    key TEXT PRIMARY KEY,
    request BLOB NOT NULL CHECK (length(request) = 32)
) STRICT, WITHOUT ROWID;
",
];
