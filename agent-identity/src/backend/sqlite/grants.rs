//! Revocations and used limits in the embedded store.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::store::{Db, Tx, sql};
use agent_core::{ErrorKind, Principal, Retry, Scope, Timestamp};
use async_trait::async_trait;
use parking_lot::RwLock;
use rusqlite::{OptionalExtension, params};

use super::schema;
use crate::grant_store::{self, Charge, ChargeMode, Counter, GrantStore, Revocation, Used};
use crate::{Error, GrantId, Result};

/// Revocations and used limits in the embedded store; the ids of revoked links are held in memory
/// as well.
///
/// If several processes share the store, each sees the revocations of the others after
/// [`SqliteGrantStore::reload`].
#[derive(Clone, Debug)]
pub struct SqliteGrantStore {
    db: Db,
    revoked: Arc<RwLock<BTreeSet<GrantId>>>,
}

impl SqliteGrantStore {
    /// Opens the tables and loads the revocations.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn open(db: &Db) -> Result<Self> {
        db.migrate(schema::LAYER, schema::STEPS).await?;
        let store = Self {
            db: db.clone(),
            revoked: Arc::default(),
        };
        store.reload().await?;
        Ok(store)
    }

    /// Adds the revocations that another process, or a transaction of this one, has stored.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn reload(&self) -> Result<()> {
        let ids = self.db.read(revoked_ids).await?;
        // Adds only: a revocation that commits meanwhile must not be lost.
        self.revoked.write().extend(ids);
        Ok(())
    }

    /// [`GrantStore::revoke`] as part of a transaction. In force in this process from this call
    /// on, even if the transaction is undone: of the two errors the safe one.
    ///
    /// # Errors
    /// As [`GrantStore::revoke`].
    pub fn revoke_in(
        &self,
        tx: &Tx<'_>,
        by: &Principal,
        grants: &[(GrantId, Timestamp)],
        reason: &str,
    ) -> Result<()> {
        grant_store::check_revoke(grants, reason)?;
        self.revoked
            .write()
            .extend(grants.iter().map(|(grant, _)| *grant));
        let mut insert = tx
            .sql()
            .prepare_cached(
                "INSERT INTO identity_revocation VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (grant_id) DO NOTHING",
            )
            .map_err(sql("revoke a grant"))?;
        for (grant, expires) in grants {
            insert
                .execute(params![
                    grant.to_string(),
                    expires.as_unix_ms(),
                    tx.now().as_unix_ms(),
                    by.as_str(),
                    reason
                ])
                .map_err(sql("revoke a grant"))?;
        }
        Ok(())
    }

    /// [`GrantStore::charge`] as part of a transaction, so that an effect's intent and what it
    /// counts against commit together.
    ///
    /// # Errors
    /// As [`GrantStore::charge`].
    pub fn charge_in(tx: &Tx<'_>, tenant: &str, charge: &Charge, mode: ChargeMode) -> Result<()> {
        if charge.is_free() || is_charged(tx, tenant, charge)? {
            return Ok(());
        }
        let mut refused = Error::invalid("charge", "it has no way");
        for way in &charge.ways {
            let sums = way
                .iter()
                .map(|counter| used(tx, counter)?.with(counter, charge.cost));
            match sums.collect::<Result<Vec<_>>>() {
                Ok(_) if mode == ChargeMode::Try => return Ok(()),
                Ok(sums) => return take(tx, tenant, charge, way, &sums),
                Err(error @ Error::UsedUp { .. }) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }
}

#[async_trait]
impl GrantStore for SqliteGrantStore {
    async fn revoke(
        &self,
        scope: &Scope,
        grants: Vec<(GrantId, Timestamp)>,
        reason: String,
    ) -> Result<()> {
        let (this, by) = (self.clone(), scope.actor.clone());
        self.db
            .write(move |tx| this.revoke_in(tx, &by, &grants, &reason))
            .await
    }

    fn is_revoked(&self, grant: GrantId) -> bool {
        self.revoked.read().contains(&grant)
    }

    async fn revocations(&self, after: Option<GrantId>, limit: usize) -> Result<Vec<Revocation>> {
        let after = after.map_or_else(String::new, |id| id.to_string());
        let limit = i64::try_from(limit.min(grant_store::PAGE_MAX)).unwrap_or(0);
        self.db
            .read(move |tx| revocations_behind(tx, &after, limit))
            .await
    }

    async fn charge(&self, scope: &Scope, charge: Charge, mode: ChargeMode) -> Result<()> {
        let tenant = Arc::clone(&scope.tenant);
        if mode == ChargeMode::Try {
            let run = move |tx: &Tx<'_>| Self::charge_in(tx, &tenant, &charge, mode);
            return self.db.read(run).await;
        }
        self.db
            .write(move |tx| Self::charge_in(tx, &tenant, &charge, mode))
            .await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64> {
        let revoked = Arc::clone(&self.revoked);
        let (n_removed, forgotten) = self.db.write(move |tx| prune(tx, before)).await?;
        revoked.write().retain(|id| !forgotten.contains(id));
        Ok(n_removed)
    }
}

fn damaged(source: agent_core::Error) -> Error {
    Error::backend(
        "sqlite",
        "read a grant",
        ErrorKind::Corrupt,
        Retry::Never,
        source,
    )
}

fn revoked_ids(tx: &Tx<'_>) -> Result<Vec<GrantId>> {
    let texts: Vec<String> = tx
        .sql()
        .prepare_cached("SELECT grant_id FROM identity_revocation")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(sql("read the revocations"))?;
    let ids = texts.iter().map(|text| text.parse().map_err(damaged));
    ids.collect()
}

fn revocations_behind(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<Revocation>> {
    type Stored = (String, i64, i64, String, String);
    let query = "SELECT grant_id, expires_ms, revoked_ms, revoked_by, reason
         FROM identity_revocation WHERE grant_id > ?1 ORDER BY grant_id LIMIT ?2";
    let rows: Vec<Stored> = tx
        .sql()
        .prepare_cached(query)
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            };
            statement.query_map(params![after, limit], read)?.collect()
        })
        .map_err(sql("read the revocations"))?;
    let revocation = |(grant, expires, at, by, reason): Stored| {
        Ok(Revocation::new(
            grant.parse().map_err(damaged)?,
            Timestamp::from_unix_ms(expires),
            Timestamp::from_unix_ms(at),
            Principal::new(&by).map_err(damaged)?,
            reason,
        ))
    };
    rows.into_iter().map(revocation).collect()
}

/// Returns whether the key has counted this effect before.
fn is_charged(tx: &Tx<'_>, tenant: &str, charge: &Charge) -> Result<bool> {
    let query = "SELECT effect FROM identity_charge WHERE tenant = ?1 AND idempotency_key = ?2";
    let effect: Option<String> = tx
        .sql()
        .prepare_cached(query)
        .and_then(|mut statement| {
            let key = [tenant, charge.key.as_str()];
            statement.query_row(key, |row| row.get(0)).optional()
        })
        .map_err(sql("read a charge"))?;
    match effect {
        None => Ok(false),
        Some(effect) if effect == charge.effect.to_string() => Ok(true),
        Some(_other) => Err(Error::KeyReused {
            key: charge.key.clone(),
        }),
    }
}

fn used(tx: &Tx<'_>, counter: &Counter) -> Result<Used> {
    let query = "SELECT calls, spend FROM identity_used WHERE grant_id = ?1 AND capability = ?2";
    let found: Option<(i64, i64)> = tx
        .sql()
        .prepare_cached(query)
        .and_then(|mut statement| {
            statement
                .query_row(
                    params![counter.grant.to_string(), counter.capability],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })
        .map_err(sql("read a limit"))?;
    // A negative count can only be damage; it is read as used up, not as unused.
    Ok(found.map_or_else(Used::default, |(calls, spend)| {
        Used::new(u64::try_from(calls).unwrap_or(u64::MAX), spend)
    }))
}

fn take(tx: &Tx<'_>, tenant: &str, charge: &Charge, way: &[Counter], sums: &[Used]) -> Result<()> {
    let mut upsert = tx
        .sql()
        .prepare_cached(
            "INSERT INTO identity_used VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (grant_id, capability) DO UPDATE SET calls = ?3, spend = ?4",
        )
        .map_err(sql("count against a limit"))?;
    for (counter, sum) in way.iter().zip(sums) {
        upsert
            .execute(params![
                counter.grant.to_string(),
                counter.capability,
                i64::try_from(sum.calls).unwrap_or(i64::MAX),
                sum.spend,
                counter.expires.as_unix_ms()
            ])
            .map_err(sql("count against a limit"))?;
    }
    let expires = way.iter().map(|counter| counter.expires).max();
    tx.sql()
        .prepare_cached("INSERT INTO identity_charge VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut statement| {
            statement.execute(params![
                tenant,
                charge.key.as_str(),
                charge.effect.to_string(),
                expires.unwrap_or_default().as_unix_ms()
            ])
        })
        .map_err(sql("record a charge"))?;
    Ok(())
}

fn prune(tx: &Tx<'_>, before: Timestamp) -> Result<(u64, BTreeSet<GrantId>)> {
    let forgotten: Vec<String> = tx
        .sql()
        .prepare_cached("DELETE FROM identity_revocation WHERE expires_ms < ?1 RETURNING grant_id")
        .and_then(|mut statement| {
            let ids = statement.query_map([before.as_unix_ms()], |row| row.get(0))?;
            ids.collect()
        })
        .map_err(sql("forget revocations"))?;
    let mut n_removed = forgotten.len();
    for statement in [
        "DELETE FROM identity_used WHERE expires_ms < ?1",
        "DELETE FROM identity_charge WHERE expires_ms < ?1",
    ] {
        let n = tx
            .sql()
            .execute(statement, [before.as_unix_ms()])
            .map_err(sql("forget used limits"))?;
        n_removed = n_removed.saturating_add(n);
    }
    let ids = forgotten.iter().map(|text| text.parse().map_err(damaged));
    Ok((
        u64::try_from(n_removed).unwrap_or(u64::MAX),
        ids.collect::<Result<_>>()?,
    ))
}
