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

    /// Writes the invoice as one HTML page to print, in the name of who bills, which may be several
    /// lines: name, address, tax number. Every text is escaped; there is no script, and nothing is
    /// loaded from elsewhere.
    #[must_use]
    pub fn to_html(&self, issuer: &str) -> String {
        let mut html = String::with_capacity(4_096);
        let (issuer, tenant) = (lines(issuer), escape(&self.tenant));
        let (number_, asset) = (self.number, self.asset);
        let since = self
            .since
            .map_or_else(|| "the beginning".to_owned(), minute);
        html.push_str(HEAD);
        // Writing to a text does not fail.
        let _ = write!(
            html,
            "<title>Invoice {number_} for {tenant}</title></head><body><h1>Invoice {number_}</h1>\
             <dl><dt>From</dt><dd>{issuer}</dd><dt>To</dt><dd>{tenant}</dd><dt>Period</dt><dd>{since} to {}</dd></dl>\
             <table><thead><tr><th>Resource</th><th>Consumed</th><th>Amount, {asset}</th></tr>\
             </thead><tbody>",
            minute(self.until)
        );
        let scale = self.fraction_digits();
        for line in &self.lines {
            let used: Vec<String> = line
                .usage
                .iter()
                .map(|(unit, n)| format!("{} {}", grouped(n), unit.name().replace('_', " ")))
                .collect();
            let _ = write!(
                html,
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&line.resource),
                used.join("<br>"),
                padded(line.amount, scale)
            );
        }
        let _ = write!(
            html,
            "</tbody><tfoot><tr><th colspan=\"2\">Total</th><th>{}</th></tr></tfoot></table>",
            padded(self.total, scale)
        );
        if self.n_late > 0 {
            let _ = write!(
                html,
                "<p>Records that arrived after their period: {}.</p>",
                self.n_late
            );
        }
        if self.n_unpriced > 0 {
            let _ = write!(
                html,
                "<p>Records without a price, not billed: {}.</p>",
                self.n_unpriced
            );
        }
        html.push_str("</body></html>\n");
        html
    }

    /// The most digits behind the point among the numbers of the page.
    fn fraction_digits(&self) -> usize {
        let all = self.lines.iter().map(|line| line.amount);
        let all = all.chain([self.total]).map(fraction);
        all.max().unwrap_or_default()
    }
}

/// The digits of a number behind its point.
fn fraction(amount: Amount) -> usize {
    let text = number(amount);
    text.split_once('.').map_or(0, |(_, digits)| digits.len())
}

/// A number with so many digits behind its point, so that a column of them stands in line.
fn padded(amount: Amount, scale: usize) -> String {
    let zeros = scale.saturating_sub(fraction(amount));
    let mut text = number(amount);
    if zeros > 0 && !text.contains('.') {
        text.push('.');
    }
    text.extend(std::iter::repeat_n('0', zeros));
    text
}

/// A moment as people read it, cut to the minute.
fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    let time: String = time.chars().take("hh:mm".len()).collect();
    format!("{day} {time} UTC")
}

/// A number in groups of three digits, apart by thin spaces that do not break.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (i, digit) in digits.char_indices() {
        if i > 0 && digits.len().saturating_sub(i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A text of several lines for HTML.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(escape).collect();
    lines.join("<br>")
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
