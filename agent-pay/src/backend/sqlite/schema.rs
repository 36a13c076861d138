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
    "
CREATE TABLE pay_switch (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    is_halted INTEGER NOT NULL,
    n_versions INTEGER NOT NULL,
    by_whom TEXT,
    at_ms INTEGER
) STRICT;
INSERT INTO pay_switch VALUES (1, 0, 0, NULL, NULL);

CREATE TABLE pay_node (
    path TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    is_revoked INTEGER NOT NULL,
    owner TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_node_owner ON pay_node (owner) WHERE owner IS NOT NULL;

CREATE TABLE pay_policy (
    path TEXT NOT NULL,
    version INTEGER NOT NULL,
    policy TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (path, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE pay_decision (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    intent TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    rules TEXT NOT NULL
) STRICT;

CREATE TABLE pay_spend (
    key TEXT PRIMARY KEY,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    decision INTEGER NOT NULL,
    node TEXT NOT NULL,
    payee TEXT NOT NULL,
    asset TEXT NOT NULL,
    units INTEGER NOT NULL CHECK (units >= 0),
    n_parts INTEGER NOT NULL,
    n_counts INTEGER NOT NULL,
    state INTEGER NOT NULL,
    captured INTEGER NOT NULL CHECK (captured >= 0 AND captured <= units),
    refunded INTEGER NOT NULL CHECK (refunded >= 0 AND refunded <= captured),
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pay_spend_due ON pay_spend (expires_ms) WHERE state = 0;

CREATE TABLE pay_refund (
    key TEXT PRIMARY KEY,
    spend TEXT NOT NULL,
    units INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pay_rolling (
    leaves_ms INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    account INTEGER NOT NULL,
    PRIMARY KEY (leaves_ms, batch, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE pay_payee (
    organisation TEXT NOT NULL,
    name TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (organisation, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE pay_approval (
    digest TEXT PRIMARY KEY,
    intent TEXT NOT NULL,
    node TEXT NOT NULL,
    approvers TEXT NOT NULL,
    quorum INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    state INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_approval_open ON pay_approval (digest) WHERE state = 0;

CREATE TABLE pay_vote (
    digest TEXT NOT NULL,
    who TEXT NOT NULL,
    vote INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (digest, who)
) STRICT, WITHOUT ROWID;

CREATE TABLE pay_replay (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request BLOB NOT NULL CHECK (length(request) = 32),
    status INTEGER,
    body TEXT,
    at_ms INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_replay_at ON pay_replay (at_ms);
",
    "
ALTER TABLE pay_usage ADD COLUMN exact TEXT;
ALTER TABLE pay_usage ADD COLUMN payee TEXT;
ALTER TABLE pay_usage ADD COLUMN invoice INTEGER;
CREATE INDEX pay_usage_open ON pay_usage (tenant, at_ms) WHERE invoice IS NULL;

CREATE TABLE pay_invoice (
    tenant TEXT NOT NULL,
    asset TEXT NOT NULL,
    number INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    carry TEXT NOT NULL,
    invoice TEXT NOT NULL,
    PRIMARY KEY (tenant, asset, number)
) STRICT, WITHOUT ROWID;
",
    "
CREATE INDEX pay_spend_submitted ON pay_spend (decision) WHERE state = 1;
CREATE TABLE pay_escrow (
    key TEXT PRIMARY KEY,
    escrow TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pay_dispute (
    spend TEXT PRIMARY KEY,
    by_whom TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
ALTER TABLE pay_refund ADD COLUMN state INTEGER NOT NULL DEFAULT 1;
CREATE INDEX pay_refund_submitted ON pay_refund (spend, key) WHERE state = 0;
",
    "
CREATE TABLE pay_spend_by_batch (
    batch INTEGER PRIMARY KEY,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    decision INTEGER NOT NULL,
    node TEXT NOT NULL,
    payee TEXT NOT NULL,
    asset TEXT NOT NULL,
    units INTEGER NOT NULL CHECK (units >= 0),
    n_parts INTEGER NOT NULL,
    n_counts INTEGER NOT NULL,
    state INTEGER NOT NULL,
    captured INTEGER NOT NULL CHECK (captured >= 0 AND captured <= units),
    refunded INTEGER NOT NULL CHECK (refunded >= 0 AND refunded <= captured),
    expires_ms INTEGER NOT NULL
) STRICT;
INSERT INTO pay_spend_by_batch SELECT b.seq, s.digest, s.decision, s.node, s.payee, s.asset, s.units,
    s.n_parts, s.n_counts, s.state, s.captured, s.refunded, s.expires_ms
    FROM pay_spend s JOIN pay_batch b ON b.key = s.key;
DROP TABLE pay_spend;
ALTER TABLE pay_spend_by_batch RENAME TO pay_spend;
CREATE INDEX pay_spend_due ON pay_spend (expires_ms) WHERE state = 0;
CREATE INDEX pay_spend_submitted ON pay_spend (decision) WHERE state = 1;

CREATE TABLE pay_activity (
    account INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (account, block)
) STRICT, WITHOUT ROWID;
INSERT INTO pay_activity SELECT debit, id / 64 FROM pay_transfer
    UNION SELECT credit, id / 64 FROM pay_transfer;
DROP INDEX pay_transfer_debit;
DROP INDEX pay_transfer_credit;

DELETE FROM pay_pending WHERE expires_ms IS NULL;
",
    "
CREATE TABLE pay_turn (
    list TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    key TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pay_refund_open ON pay_refund (key) WHERE state = 0;
",
    // The table of keys is filled by the program: SQL has no digest.
    "
CREATE TABLE pay_batch_by_seq (
    seq INTEGER PRIMARY KEY,
    key TEXT,
    request BLOB NOT NULL,
    origin INTEGER NOT NULL,
    resolves INTEGER,
    at_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    first_transfer INTEGER NOT NULL,
    n_transfers INTEGER NOT NULL,
    hash BLOB NOT NULL,
    memo TEXT
) STRICT;
INSERT INTO pay_batch_by_seq SELECT seq, key, request, origin, resolves, at_ms, expires_ms,
    first_transfer, n_transfers, hash, memo FROM pay_batch;
DROP TABLE pay_batch;
ALTER TABLE pay_batch_by_seq RENAME TO pay_batch;
CREATE UNIQUE INDEX pay_batch_resolves ON pay_batch (resolves) WHERE resolves IS NOT NULL;

CREATE TABLE pay_key (
    hash INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    PRIMARY KEY (hash, batch)
) STRICT, WITHOUT ROWID;
",
];
