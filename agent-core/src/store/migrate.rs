//! Numbered migrations per layer.

use rusqlite::{OptionalExtension, params};

use super::{Error, Tx, sql};
use crate::effect::Digest;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS core_migration (
    layer TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    applied_ms INTEGER NOT NULL,
    PRIMARY KEY (layer, version)
) STRICT, WITHOUT ROWID";

/// Applies the steps that are missing and checks those that are there.
pub(super) fn apply(
    tx: &Tx<'_>,
    layer: &'static str,
    steps: &'static [&'static str],
) -> Result<(), Error> {
    let db = tx.sql();
    db.execute(TABLE, [])
        .map_err(sql("create the table of migrations"))?;
    let found: u32 = db
        .query_row(
            "SELECT coalesce(max(version), 0) FROM core_migration WHERE layer = ?1",
            [layer],
            |row| row.get(0),
        )
        .map_err(sql("read the version of a layer"))?;
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(Error::TooNew {
            layer: layer.to_owned(),
            found,
            known,
        });
    }
    for (version, step) in (1_u32..).zip(steps) {
        let digest = Digest::of_bytes(step.as_bytes()).to_string();
        let applied: Option<String> = db
            .query_row(
                "SELECT digest FROM core_migration WHERE layer = ?1 AND version = ?2",
                params![layer, version],
                |row| row.get(0),
            )
            .optional()
            .map_err(sql("read a migration"))?;
        match applied {
            Some(applied) if applied == digest => {}
            Some(_other) => {
                let found = format!("migration {version} of layer {layer} is not the known one");
                return Err(Error::damaged(found));
            }
            None => {
                db.execute_batch(step).map_err(sql("apply a migration"))?;
                db.execute(
                    "INSERT INTO core_migration VALUES (?1, ?2, ?3, ?4)",
                    params![layer, version, digest, tx.now().as_unix_ms()],
                )
                .map_err(sql("record a migration"))?;
            }
        }
    }
    Ok(())
}
