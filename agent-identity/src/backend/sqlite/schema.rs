//! The tables of this layer.

pub(super) const LAYER: &str = "identity";

pub(super) const STEPS: &[&str] = &["CREATE TABLE identity_vault (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    header TEXT NOT NULL
) STRICT;
CREATE TABLE identity_key (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    did TEXT NOT NULL,
    key_id TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    retired_ms INTEGER,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, name, generation)
) STRICT, WITHOUT ROWID;
CREATE TABLE identity_revocation (
    grant_id TEXT PRIMARY KEY,
    expires_ms INTEGER NOT NULL,
    revoked_ms INTEGER NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE identity_used (
    grant_id TEXT NOT NULL,
    capability INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    spend INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (grant_id, capability)
) STRICT, WITHOUT ROWID;
CREATE TABLE identity_charge (
    tenant TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    effect TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, idempotency_key)
) STRICT, WITHOUT ROWID;"];
