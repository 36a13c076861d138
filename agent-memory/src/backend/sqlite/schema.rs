//! The tables. `seq` is the number of a change; an entry and a version of a relation carry the
//! number of the change that added them, which is how an index knows what it has not seen.

/// The layer's name in the store.
pub(super) const LAYER: &str = "memory";

/// The steps from an empty file to the present tables.
pub(super) const STEPS: &[&str] = &["
CREATE TABLE memory_partition (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    namespace TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    UNIQUE (tenant, namespace)
) STRICT;
CREATE TABLE memory_space (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    dimensions INTEGER NOT NULL
) STRICT;
CREATE TABLE memory_change (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL REFERENCES memory_partition (id),
    id BLOB,
    verb TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    valid_to_ms INTEGER,
    successor BLOB
) STRICT;
CREATE INDEX memory_change_by_partition ON memory_change (partition, seq) WHERE verb <> 'added';
CREATE INDEX memory_change_by_id ON memory_change (id);
CREATE INDEX memory_change_by_successor ON memory_change (successor) WHERE successor IS NOT NULL;
CREATE TABLE memory_entry (
    seq INTEGER PRIMARY KEY REFERENCES memory_change (seq),
    partition INTEGER NOT NULL REFERENCES memory_partition (id),
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    thread TEXT,
    occurred_ms INTEGER NOT NULL,
    recorded_ms INTEGER NOT NULL,
    valid_from_ms INTEGER NOT NULL,
    valid_to_ms INTEGER,
    superseded_by BLOB,
    actor TEXT NOT NULL,
    channel TEXT,
    trust INTEGER NOT NULL,
    space INTEGER REFERENCES memory_space (id),
    scale REAL,
    vector BLOB
) STRICT;
CREATE INDEX memory_entry_by_partition ON memory_entry (partition, seq);
CREATE TABLE memory_source (
    entry INTEGER NOT NULL REFERENCES memory_entry (seq),
    source INTEGER NOT NULL REFERENCES memory_entry (seq),
    PRIMARY KEY (entry, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX memory_source_by_source ON memory_source (source);
CREATE TABLE memory_key (
    digest BLOB PRIMARY KEY,
    id BLOB NOT NULL,
    content BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX memory_key_by_id ON memory_key (id);
CREATE TABLE memory_edge (
    seq INTEGER PRIMARY KEY REFERENCES memory_change (seq),
    partition INTEGER NOT NULL REFERENCES memory_partition (id),
    from_node TEXT NOT NULL,
    label TEXT NOT NULL,
    to_node TEXT NOT NULL,
    weight REAL NOT NULL,
    UNIQUE (partition, from_node, label, to_node)
) STRICT;
CREATE INDEX memory_edge_by_partition ON memory_edge (partition, seq);
CREATE INDEX memory_edge_by_end ON memory_edge (partition, to_node);
CREATE VIEW memory_document (seq, scope, text) AS
    SELECT seq, 'p' || partition, text FROM memory_entry;
CREATE VIRTUAL TABLE memory_fts USING fts5 (
    scope, text, content = 'memory_document', content_rowid = 'seq',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO memory_fts (memory_fts, rank) VALUES ('secure-delete', 1);
", "
CREATE TABLE memory_relation (
    seq INTEGER PRIMARY KEY REFERENCES memory_change (seq),
    partition INTEGER NOT NULL REFERENCES memory_partition (id),
    from_node TEXT NOT NULL,
    label TEXT NOT NULL,
    to_node TEXT NOT NULL,
    weight REAL NOT NULL,
    valid_from_ms INTEGER NOT NULL,
    valid_to_ms INTEGER,
    known_from_ms INTEGER NOT NULL,
    known_to_ms INTEGER
) STRICT;
INSERT INTO memory_relation
    SELECT e.seq, e.partition, e.from_node, e.label, e.to_node, e.weight, c.at_ms, NULL, c.at_ms, NULL
    FROM memory_edge e JOIN memory_change c ON c.seq = e.seq;
DROP TABLE memory_edge;
CREATE UNIQUE INDEX memory_relation_known ON memory_relation
    (partition, from_node, label, to_node, valid_from_ms) WHERE known_to_ms IS NULL;
CREATE INDEX memory_relation_by_partition ON memory_relation (partition, seq);
CREATE INDEX memory_relation_by_start ON memory_relation (partition, from_node);
CREATE INDEX memory_relation_by_end ON memory_relation (partition, to_node);
", "
ALTER TABLE memory_entry ADD COLUMN embedded_seq INTEGER;
CREATE INDEX memory_entry_by_space ON memory_entry (space, seq) WHERE space IS NOT NULL;
CREATE INDEX memory_entry_by_embedding ON memory_entry (partition, embedded_seq)
    WHERE embedded_seq IS NOT NULL;
"];
