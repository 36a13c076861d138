//! Invoices in the embedded store: every priced record is on exactly one.

use agent_core::store::{Tx, sql};
use agent_core::{Asset, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::book::{AssetText, stored};
use super::usage::{ENTRY, entry};
use crate::error::{Error, Result};
use crate::invoice::Invoice;
use crate::ratio::Ratio;
use crate::spend::{SpendBy, SpendReport};

/// Closes a tenant's invoice with everything counted before `until` that is on none yet, late
/// records of earlier periods included. Closing the same period again gives the same invoice.
///
/// # Errors
/// `Invalid` for an end before that of the last invoice, or sums that do not fit.
pub fn close_invoice(
    tx: &mut Tx<'_>,
    tenant: &str,
    asset: Asset,
    until: Timestamp,
) -> Result<Invoice> {
    let last = last(tx, tenant, asset)?;
    let (number, since, carry) = match last {
        Some((_, end, _, invoice)) if end == until => return Ok(invoice),
        Some((_, end, ..)) if end > until => {
            return Err(Error::invalid(
                "invoice",
                "it would end before the last one",
            ));
        }
        Some((number, end, carry, _)) => (number.saturating_add(1), Some(end), carry),
        None => (1, None, Ratio::ZERO),
    };
    let mut report = SpendReport::new(SpendBy::Resource, asset);
    let n_late = add_open(tx, &mut report, tenant, asset, since, until)?;
    let mut invoice = Invoice::new(tenant, asset, number, until, carry, &report.into_rows())?;
    invoice.since = since;
    invoice.n_late = n_late;
    invoice.n_unpriced = unpriced(tx, tenant, until)?;
    keep(tx, &invoice)?;
    Ok(invoice)
}

/// Returns an invoice by its number.
///
/// # Errors
/// Those of the store.
pub fn invoice(tx: &Tx<'_>, tenant: &str, asset: Asset, number: u64) -> Result<Option<Invoice>> {
    let asset = AssetText::of(asset);
    let text: Option<String> = tx
        .sql()
        .prepare_cached(
            "SELECT invoice FROM pay_invoice WHERE tenant = ?1 AND asset = ?2 AND number = ?3",
        )
        .and_then(|mut select| {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            let values = params![tenant, asset.as_str(), number];
            select.query_row(values, |row| row.get(0)).optional()
        })
        .map_err(sql("read an invoice"))?;
    text.map(|text| parse(&text)).transpose()
}

fn parse(text: &str) -> Result<Invoice> {
    serde_json::from_str(text).map_err(|e| Error::corrupt(format!("a stored invoice: {e}")))
}

type Last = (u64, Timestamp, Ratio, Invoice);

fn last(tx: &Tx<'_>, tenant: &str, asset: Asset) -> Result<Option<Last>> {
    let asset = AssetText::of(asset);
    let row: Option<(i64, i64, String, String)> = tx
        .sql()
        .prepare_cached(
            "SELECT number, until_ms, carry, invoice FROM pay_invoice \
             WHERE tenant = ?1 AND asset = ?2 ORDER BY number DESC LIMIT 1",
        )
        .and_then(|mut select| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            select
                .query_row(params![tenant, asset.as_str()], read)
                .optional()
        })
        .map_err(sql("read the last invoice"))?;
    let Some((number, until_ms, carry, invoice)) = row else {
        return Ok(None);
    };
    let number = u64::try_from(number).map_err(|_sign| Error::corrupt("an invoice's number"))?;
    let until = Timestamp::from_unix_ms(until_ms);
    Ok(Some((number, until, carry.parse()?, parse(&invoice)?)))
}

/// Adds the records that are on no invoice and returns how many of them are late.
fn add_open(
    tx: &Tx<'_>,
    report: &mut SpendReport,
    tenant: &str,
    asset: Asset,
    since: Option<Timestamp>,
    until: Timestamp,
) -> Result<u64> {
    let operation = "read usage records";
    let mut select = tx
        .sql()
        .prepare_cached(&format!(
            "{ENTRY} WHERE invoice IS NULL AND tenant = ?1 AND at_ms < ?2 AND asset = ?3 \
             AND cost IS NOT NULL"
        ))
        .map_err(sql(operation))?;
    let asset = AssetText::of(asset);
    let values = params![tenant, until.as_unix_ms(), asset.as_str()];
    let mut rows = select.query(values).map_err(sql(operation))?;
    let mut n_late = 0_u64;
    while let Some(row) = rows.next().map_err(sql(operation))? {
        let entry = entry(row)?;
        if since.is_some_and(|since| entry.record.at < since) {
            n_late = n_late.saturating_add(1);
        }
        report.add(&entry)?;
    }
    Ok(n_late)
}

fn unpriced(tx: &Tx<'_>, tenant: &str, until: Timestamp) -> Result<u64> {
    let n: i64 = tx
        .sql()
        .prepare_cached(
            "SELECT count(*) FROM pay_usage WHERE invoice IS NULL AND tenant = ?1 \
             AND at_ms < ?2 AND cost IS NULL",
        )
        .and_then(|mut select| {
            select.query_row(params![tenant, until.as_unix_ms()], |row| row.get(0))
        })
        .map_err(sql("count usage records"))?;
    u64::try_from(n).map_err(|_sign| Error::corrupt("a count"))
}

fn keep(tx: &Tx<'_>, invoice: &Invoice) -> Result<()> {
    let asset = AssetText::of(invoice.asset);
    let number = stored(invoice.number)?;
    let until_ms = invoice.until.as_unix_ms();
    tx.sql()
        .prepare_cached(
            "UPDATE pay_usage SET invoice = ?4 WHERE invoice IS NULL AND tenant = ?1 \
             AND at_ms < ?2 AND asset = ?3 AND cost IS NOT NULL",
        )
        .and_then(|mut mark| {
            mark.execute(params![invoice.tenant, until_ms, asset.as_str(), number])
        })
        .map_err(sql("mark usage records"))?;
    let text =
        serde_json::to_string(invoice).map_err(|e| Error::invalid("invoice", e.to_string()))?;
    let carry = invoice.carried_out.to_string();
    let values = params![
        invoice.tenant,
        asset.as_str(),
        number,
        until_ms,
        carry,
        text
    ];
    tx.sql()
        .prepare_cached("INSERT INTO pay_invoice VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
        .and_then(|mut insert| insert.execute(values))
        .map_err(sql("keep an invoice"))?;
    Ok(())
}
