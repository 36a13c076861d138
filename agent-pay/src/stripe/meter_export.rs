//! Usage records sent to meters: each once, and none twice for want of an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::store::{Db, Tx, sql};
use agent_core::{Clock, Env, Timestamp, Unit, Usage};
use rusqlite::{OptionalExtension, params};

use super::client::Stripe;
use super::error::CallError;
use super::id::CustomerId;
use super::meter::MeterEvent;
use super::store;
use crate::backend::sqlite;
use crate::error::{Error, Result};
use crate::transport::Refuses as _;

/// Stripe knows an identifier again for a day at least; an hour less is safe.
const KNOWN_AGAIN: Duration = Duration::from_secs(23 * 3_600);
/// Stripe takes events of the last 35 days.
const AGE_MAX: Duration = Duration::from_secs(35 * 86_400 - 3_600);

/// What an export did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Events Stripe took.
    pub n_sent: u64,
    /// Events that are not sent by themselves any more; see [`MeterExport::withheld`].
    pub n_withheld: u64,
    /// Quantities of tenants without a customer, which nobody is billed for.
    pub n_without_customer: u64,
    /// Whether there may be more to export.
    pub has_more: bool,
}

/// An event a person has to decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// Its identifier at Stripe.
    pub identifier: String,
    /// The meter of ours that counted it, and its number there.
    pub usage: (String, String),
    /// Why: `uncertain` (it was sent, the answer was lost, and Stripe may have forgotten the
    /// identifier since), `too_old`, or the code Stripe refused it with.
    pub reason: String,
}

/// Exports usage to the meters of Stripe.
#[derive(Clone, Debug)]
pub struct MeterExport {
    client: Stripe,
    db: Db,
    clock: Arc<dyn Clock>,
    meters: BTreeMap<Unit, String>,
    customers: BTreeMap<String, CustomerId>,
}

struct Record {
    row: i64,
    source: String,
    id: String,
    usage: Usage,
    at: Timestamp,
    tenant: String,
}

enum Standing {
    Send,
    Done,
    Withheld,
}

impl MeterExport {
    /// The most usage records of one export.
    pub const RECORDS_MAX: usize = 1_000;

    /// Opens the export of the usage in `db`. Nothing is sent until meters and customers are named.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Atomic.
    pub async fn open(client: Stripe, db: Db, env: &Env) -> Result<Self> {
        sqlite::migrate(&db).await?;
        store::migrate(&db).await?;
        Ok(Self {
            client,
            db,
            clock: Arc::clone(&env.clock),
            meters: BTreeMap::new(),
            customers: BTreeMap::new(),
        })
    }

    /// Counts a unit with a meter, by its event name. Default: none, the unit is not sent.
    #[must_use]
    pub fn with_meter(mut self, unit: Unit, event_name: impl Into<String>) -> Self {
        self.meters.insert(unit, event_name.into());
        self
    }

    /// Bills a tenant as a customer. Default: nobody is billed for it.
    #[must_use]
    pub fn with_customer(mut self, tenant: impl Into<String>, customer: CustomerId) -> Self {
        self.customers.insert(tenant.into(), customer);
        self
    }

    /// Sends what was metered since the last export, at most `limit` records in the order they were
    /// recorded. Run it again after an error: it goes on where it was, and what was on its way is
    /// sent under the same identifier.
    ///
    /// # Errors
    /// [`CallError`] when Stripe cannot be reached or refuses the key; those of the store.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn run(&self, limit: usize) -> Result<Exported, CallError> {
        let limit = limit.clamp(1, Self::RECORDS_MAX);
        let records = self.db.read(move |tx| next(tx, limit)).await?;
        let mut exported = Exported {
            has_more: records.len() == limit,
            ..Exported::default()
        };
        for record in records {
            self.send(&record, &mut exported).await?;
            self.db.write(move |tx| advance(tx, record.row)).await?;
        }
        Ok(exported)
    }

    async fn send(&self, record: &Record, exported: &mut Exported) -> Result<(), CallError> {
        for (unit, value) in record.usage.iter() {
            let (Some(name), true) = (self.meters.get(&unit), value > 0) else {
                continue;
            };
            let Some(customer) = self.customers.get(&record.tenant) else {
                exported.n_without_customer = exported.n_without_customer.saturating_add(1);
                continue;
            };
            let identifier = MeterEvent::identify(&record.source, &record.id, unit)?;
            let (of, row, at) = (identifier.as_str().to_owned(), record.row, record.at);
            let standing = self.db.write(move |tx| begin(tx, &of, row, at)).await?;
            match standing {
                Standing::Done => continue,
                Standing::Withheld => {
                    exported.n_withheld = exported.n_withheld.saturating_add(1);
                    continue;
                }
                Standing::Send => {}
            }
            let at = record.at.min(self.clock.now());
            let event = MeterEvent::new(name, customer.clone(), value, identifier, at)?;
            let of = event.identifier().as_str().to_owned();
            match self.client.meter_event(&event).await {
                Ok(()) => {
                    self.db.write(move |tx| end(tx, &of, 1, None)).await?;
                    exported.n_sent = exported.n_sent.saturating_add(1);
                }
                Err(CallError::Refused(refusal)) if ![401, 403].contains(&refusal.status) => {
                    let reason = refusal.reason();
                    self.db
                        .write(move |tx| end(tx, &of, 2, Some(&reason)))
                        .await?;
                    exported.n_withheld = exported.n_withheld.saturating_add(1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lists at most `limit` events a person has to decide about.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn withheld(&self, limit: usize) -> Result<Vec<Withheld>> {
        self.db.read(move |tx| withheld(tx, limit)).await
    }
}

fn next(tx: &Tx<'_>, limit: usize) -> Result<Vec<Record>> {
    let select = "SELECT rowid, source, id, usage, at_ms, tenant FROM pay_usage \
                  WHERE rowid > (SELECT through FROM pay_stripe_meter) ORDER BY rowid LIMIT ?1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    type Found = (i64, String, String, String, i64, String);
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let rows = select.query_map([limit], |row| {
            let (usage, at) = (row.get(3)?, row.get(4)?);
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                usage,
                at,
                row.get(5)?,
            ))
        })?;
        rows.collect::<rusqlite::Result<Vec<Found>>>()
    });
    let found = found.map_err(sql("read usage to export"))?;
    let mut records = Vec::with_capacity(found.len());
    for (row, source, id, usage, at_ms, tenant) in found {
        let usage = serde_json::from_str(&usage)
            .map_err(|e| Error::corrupt(format!("a stored usage: {e}")))?;
        records.push(Record {
            row,
            source,
            id,
            usage,
            at: Timestamp::from_unix_ms(at_ms),
            tenant,
        });
    }
    Ok(records)
}

/// Notes that an event is about to be sent, and says whether it may be. One that may have been sent
/// so long ago that Stripe may have forgotten its identifier must not be sent again: it could count
/// twice.
fn begin(tx: &mut Tx<'_>, identifier: &str, row: i64, at: Timestamp) -> Result<Standing> {
    let now = tx.now();
    let select = "SELECT state, first_ms FROM pay_stripe_metered WHERE identifier = ?1";
    let found: Option<(i64, i64)> = tx
        .sql()
        .prepare_cached(select)
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            select.query_row([identifier], read).optional()
        })
        .map_err(sql("read an event of a meter"))?;
    let first = match found {
        Some((1, _)) => return Ok(Standing::Done),
        Some((2, _)) => return Ok(Standing::Withheld),
        Some((_, first_ms)) => Timestamp::from_unix_ms(first_ms),
        None => now,
    };
    if found.is_none() {
        let insert = "INSERT INTO pay_stripe_metered VALUES (?1, ?2, 0, ?3, NULL)";
        let done = tx
            .sql()
            .prepare_cached(insert)
            .and_then(|mut insert| insert.execute(params![identifier, row, now.as_unix_ms()]));
        done.map_err(sql("write an event of a meter"))?;
    }
    let reason = if now.since(first) >= KNOWN_AGAIN {
        "uncertain"
    } else if now.since(at) >= AGE_MAX {
        "too_old"
    } else {
        return Ok(Standing::Send);
    };
    end(tx, identifier, 2, Some(reason))?;
    Ok(Standing::Withheld)
}

fn end(tx: &mut Tx<'_>, identifier: &str, state: i64, reason: Option<&str>) -> Result<()> {
    let update = "UPDATE pay_stripe_metered SET state = ?2, reason = ?3 WHERE identifier = ?1";
    let done = tx
        .sql()
        .prepare_cached(update)
        .and_then(|mut update| update.execute(params![identifier, state, reason]));
    done.map_err(sql("write an event of a meter"))?;
    Ok(())
}

/// Notes that a record is exported. What was sent needs no row of its own any more.
fn advance(tx: &mut Tx<'_>, row: i64) -> Result<()> {
    let steps = [
        "DELETE FROM pay_stripe_metered WHERE usage = ?1 AND state = 1",
        "UPDATE pay_stripe_meter SET through = max(through, ?1)",
    ];
    for step in steps {
        let done = tx
            .sql()
            .prepare_cached(step)
            .and_then(|mut step| step.execute([row]));
        done.map_err(sql("write how far usage is exported"))?;
    }
    Ok(())
}

fn withheld(tx: &Tx<'_>, limit: usize) -> Result<Vec<Withheld>> {
    let select = "SELECT m.identifier, u.source, u.id, m.reason FROM pay_stripe_metered m \
                  JOIN pay_usage u ON u.rowid = m.usage WHERE m.state = 2 \
                  ORDER BY m.usage, m.identifier LIMIT ?1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let rows = select.query_map([limit], |row| {
            let reason: Option<String> = row.get(3)?;
            Ok(Withheld {
                identifier: row.get(0)?,
                usage: (row.get(1)?, row.get(2)?),
                reason: reason.unwrap_or_default(),
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    Ok(found.map_err(sql("read events that are withheld"))?)
}
