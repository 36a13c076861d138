//! Invoices: what a tenant consumed, once, to the smallest unit.

use std::fmt::Write as _;

use agent_core::{Amount, Asset, Timestamp, Usage};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::export::number;
use crate::ratio::Ratio;
use crate::spend::SpendRow;

/// What one resource did cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InvoiceLine {
    /// The resource.
    pub resource: String,
    /// What was consumed of it.
    pub usage: Usage,
    /// What it did cost, not rounded, in smallest units.
    pub exact: Ratio,
    /// Its part of the total. The parts add up to it: a fraction that is left goes to the next line.
    pub amount: Amount,
}

/// An invoice of a tenant. It is final; what arrives later is on the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Invoice {
    /// Its number among those of the tenant in the asset, counted from 1.
    pub number: u64,
    /// The tenant.
    pub tenant: String,
    /// The asset.
    pub asset: Asset,
    /// The end of the last invoice; absent for the first.
    pub since: Option<Timestamp>,
    /// The first moment that is not on it.
    pub until: Timestamp,
    /// What it consists of, in the order of the resources.
    pub lines: Vec<InvoiceLine>,
    /// The fraction of a smallest unit left from the invoice before.
    pub carried_in: Ratio,
    /// What is to be paid.
    pub total: Amount,
    /// The fraction of a smallest unit left for the next invoice.
    pub carried_out: Ratio,
    /// How many records were counted before `since` and arrived after it.
    pub n_late: u64,
    /// How many records have no price and are not billed.
    pub n_unpriced: u64,
}

impl Invoice {
    /// The most lines: a resource each.
    pub const LINES_MAX: usize = 10_000;

    /// Adds up rows by resource. Nothing is lost by rounding: `carried_in` and all exact costs
    /// together are `total` and `carried_out`.
    ///
    /// # Errors
    /// `Invalid` if a sum does not fit or there are too many lines.
    pub fn new(
        tenant: &str,
        asset: Asset,
        number: u64,
        until: Timestamp,
        carried_in: Ratio,
        rows: &[SpendRow],
    ) -> Result<Self> {
        if rows.len() > Self::LINES_MAX {
            return Err(Error::invalid("invoice", "more than 10000 lines"));
        }
        let (mut sum, mut lines) = (carried_in, Vec::with_capacity(rows.len()));
        let mut n_unpriced = 0_u64;
        for row in rows {
            let before = sum.floor();
            sum = sum.plus(row.exact)?;
            let units = sum.floor().saturating_sub(before);
            n_unpriced = n_unpriced.saturating_add(row.n_unpriced);
            lines.push(InvoiceLine {
                resource: row.group.clone().unwrap_or_default(),
                usage: row.usage.clone(),
                exact: row.exact,
                amount: Amount::from_units(units, asset),
            });
        }
        let (units, carried_out) = sum.split()?;
        let total = Amount::from_units(units, asset);
        total.units_i64()?;
        Ok(Self {
            number,
            tenant: tenant.to_owned(),
            asset,
            since: None,
            until,
            lines,
            carried_in,
            total,
            carried_out,
            n_late: 0,
            n_unpriced,
        })
    }

    /// Writes the invoice as JSON. Amounts and fractions are texts.
    ///
    /// # Errors
    /// None for invoices that exist.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::invalid("invoice", e.to_string()))
    }

    /// Writes the invoice as one HTML page to print. Every text is escaped; there is no script, and
    /// nothing is loaded from elsewhere.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut html = String::with_capacity(4_096);
        let tenant = escape(&self.tenant);
        let (number_, asset) = (self.number, self.asset);
        let since = self
            .since
            .map_or_else(|| "the beginning".to_owned(), |at| at.to_string());
        html.push_str(HEAD);
        // Writing to a text does not fail.
        let _ = write!(
            html,
            "<title>Invoice {number_} for {tenant}</title></head><body><h1>Invoice {number_}</h1>\
             <dl><dt>To</dt><dd>{tenant}</dd><dt>Period</dt><dd>{since} to {}</dd></dl>\
             <table><thead><tr><th>Resource</th><th>Consumed</th><th>Amount, {asset}</th></tr>\
             </thead><tbody>",
            self.until
        );
        for line in &self.lines {
            let used: Vec<String> = line
                .usage
                .iter()
                .map(|(unit, quantity)| format!("{quantity} {}", unit.name().replace('_', " ")))
                .collect();
            let _ = write!(
                html,
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&line.resource),
                used.join("<br>"),
                number(line.amount)
            );
        }
        let _ = write!(
            html,
            "</tbody><tfoot><tr><th colspan=\"2\">Total</th><th>{}</th></tr></tfoot></table>",
            number(self.total)
        );
        if self.n_late > 0 {
            let _ = write!(
                html,
                "<p>{} records arrived after their period.</p>",
                self.n_late
            );
        }
        html.push_str("</body></html>\n");
        html
    }
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<style>body{font:14px/1.4 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#111}\
h1{font-size:1.6rem}dl{display:grid;grid-template-columns:6rem 1fr}dt{color:#555}dd{margin:0;\
overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:.4rem .6rem;border-bottom:1px solid #ccc;vertical-align:top;overflow-wrap:anywhere}\
th:last-child,td:last-child{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
tfoot th{border-top:2px solid #111;border-bottom:0}@media print{body{margin:0}}</style>";

/// Escapes a text for HTML, within elements and attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() || is_bidi(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Marks that turn the direction of what follows, and with it what a reader sees.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}
