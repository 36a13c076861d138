//! The journal and statements as CSV and JSON, a page at a time, so that a ledger of any size is
//! written in little memory.

use std::io::Write;

use agent_core::{Amount, ErrorKind, Retry, Timestamp};
use serde::Serialize;

use crate::batch::{Transfer, TransferKind};
use crate::error::{Error, Result};
use crate::journal::Journaled;
use crate::ledger::{JournalQuery, Ledger, LedgerExt, StatementQuery, TrialBalance};

/// In which form something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Comma-separated values after RFC 4180, with a header. A text that a spreadsheet would take
    /// for a formula has a `'` before it.
    Csv,
    /// One JSON object a line. Amounts are decimal strings.
    JsonLines,
}

#[derive(Serialize)]
struct Row<'a> {
    batch: u64,
    at: String,
    key: Option<&'a str>,
    origin: &'static str,
    resolves: Option<u64>,
    expires_at: Option<String>,
    transfer: Option<u64>,
    kind: Option<&'static str>,
    debit: Option<&'a str>,
    credit: Option<&'a str>,
    amount: Option<String>,
    asset: Option<String>,
    hold: Option<u64>,
    memo: Option<&'a str>,
    hash: String,
}

const JOURNAL_HEADER: [&str; 15] = [
    "batch",
    "at",
    "key",
    "origin",
    "resolves",
    "expires_at",
    "transfer",
    "kind",
    "debit",
    "credit",
    "amount",
    "asset",
    "hold",
    "memo",
    "hash",
];

/// Writes the whole journal, a row for each transfer, and returns how many rows it wrote. A batch
/// without transfers, one that opens accounts, has one row.
///
/// Batches appended while it runs may or may not be included.
///
/// # Errors
/// Those of the ledger; `Unavailable` if `out` fails.
///
/// # Cancel safety
/// Not cancel safe: `out` ends within the journal.
pub async fn journal<L, W>(ledger: &L, format: Format, out: &mut W) -> Result<u64>
where
    L: Ledger + ?Sized,
    W: Write + Send,
{
    let mut n_rows = 0_u64;
    let mut after = 0;
    if format == Format::Csv {
        write_line(out, &JOURNAL_HEADER.join(","))?;
    }
    loop {
        let page = ledger.journal(JournalQuery::new(after)).await?;
        let Some(last) = page.last() else {
            return Ok(n_rows);
        };
        after = last.row.seq;
        for batch in &page {
            for row in rows(batch) {
                write_row(out, format, &row)?;
                n_rows = n_rows.saturating_add(1);
            }
        }
    }
}

/// Writes the statement of an account: every transfer that touches it and the balance after it,
/// credits less debits. Returns the closing balance, which is the account's.
///
/// # Errors
/// `NotFound` for an account that is not open; those of the ledger; `Unavailable` if `out` fails.
///
/// # Cancel safety
/// Not cancel safe: `out` ends within the statement.
pub async fn statement<L, W>(
    ledger: &L,
    mut query: StatementQuery,
    format: Format,
    out: &mut W,
) -> Result<Amount>
where
    L: Ledger + ?Sized,
    W: Write + Send,
{
    #[derive(Serialize)]
    struct Line<'a> {
        transfer: u64,
        kind: &'static str,
        debit: &'a str,
        credit: &'a str,
        change: String,
        balance: String,
        asset: String,
    }
    let mut balance = Amount::zero(query.asset);
    let account = query.account.clone();
    ledger.account(query.asset, account.clone()).await?;
    if format == Format::Csv {
        write_line(out, "transfer,kind,debit,credit,change,balance,asset")?;
    }
    loop {
        let page = ledger.statement(query.clone()).await?;
        let Some(last) = page.last() else {
            return Ok(balance);
        };
        query.after = last.id;
        for transfer in &page {
            let change = change(transfer, account == transfer.debit)?;
            balance = balance.plus(change)?;
            let line = Line {
                transfer: transfer.id,
                kind: kind(transfer.kind),
                debit: transfer.debit.as_str(),
                credit: transfer.credit.as_str(),
                change: number(change),
                balance: number(balance),
                asset: query.asset.to_string(),
            };
            write_row(out, format, &line)?;
        }
    }
}

/// Writes the sums of every ledger and returns whether all of them balance.
///
/// # Errors
/// Those of the ledger; `Unavailable` if `out` fails.
///
/// # Cancel safety
/// Not cancel safe: `out` ends within the sums.
pub async fn trial_balance<L, W>(ledger: &L, format: Format, out: &mut W) -> Result<bool>
where
    L: Ledger + ?Sized,
    W: Write + Send,
{
    #[derive(Serialize)]
    struct Line {
        asset: String,
        debits_posted: String,
        credits_posted: String,
        debits_pending: String,
        credits_pending: String,
        is_balanced: bool,
    }
    let sums = ledger.trial_balance().await?;
    if format == Format::Csv {
        let header =
            "asset,debits_posted,credits_posted,debits_pending,credits_pending,is_balanced";
        write_line(out, header)?;
    }
    for sum in &sums {
        let line = Line {
            asset: sum.asset().to_string(),
            debits_posted: number(sum.debits_posted),
            credits_posted: number(sum.credits_posted),
            debits_pending: number(sum.debits_pending),
            credits_pending: number(sum.credits_pending),
            is_balanced: sum.is_balanced(),
        };
        write_row(out, format, &line)?;
    }
    Ok(sums.iter().all(TrialBalance::is_balanced))
}

/// Returns what a transfer changes of an account's posted balance.
fn change(transfer: &Transfer, is_debited: bool) -> Result<Amount> {
    let zero = Amount::zero(transfer.amount.asset());
    let is_positive = match transfer.kind {
        TransferKind::Posted | TransferKind::Captured => !is_debited,
        TransferKind::Reversed => is_debited,
        TransferKind::Pending | TransferKind::Voided | TransferKind::Expired => return Ok(zero),
    };
    if is_positive {
        Ok(transfer.amount)
    } else {
        Ok(zero.minus(transfer.amount)?)
    }
}

fn rows(batch: &Journaled) -> Vec<Row<'_>> {
    let head = || Row {
        batch: batch.row.seq,
        at: batch.row.at.to_string(),
        key: batch
            .row
            .key
            .as_ref()
            .map(agent_core::IdempotencyKey::as_str),
        origin: batch.row.origin.name(),
        resolves: batch.row.resolves,
        expires_at: batch.row.expires_at.as_ref().map(Timestamp::to_string),
        transfer: None,
        kind: None,
        debit: None,
        credit: None,
        amount: None,
        asset: None,
        hold: None,
        memo: batch.row.memo.as_deref(),
        hash: batch.row.hash.to_string(),
    };
    if batch.transfers.is_empty() {
        return vec![head()];
    }
    let row = |transfer| fill(head(), transfer);
    batch.transfers.iter().map(row).collect()
}

fn fill<'a>(head: Row<'a>, transfer: &'a Transfer) -> Row<'a> {
    Row {
        transfer: Some(transfer.id),
        kind: Some(kind(transfer.kind)),
        debit: Some(transfer.debit.as_str()),
        credit: Some(transfer.credit.as_str()),
        amount: Some(number(transfer.amount)),
        asset: Some(transfer.amount.asset().to_string()),
        hold: transfer.hold,
        ..head
    }
}

/// Writes a decimal without its asset.
pub(crate) fn number(amount: Amount) -> String {
    let text = amount.to_string();
    text.split(' ').next().unwrap_or_default().to_owned()
}

const fn kind(kind: TransferKind) -> &'static str {
    match kind {
        TransferKind::Posted => "posted",
        TransferKind::Pending => "pending",
        TransferKind::Captured => "captured",
        TransferKind::Voided => "voided",
        TransferKind::Expired => "expired",
        TransferKind::Reversed => "reversed",
    }
}

fn write_row<W: Write, T: Serialize>(out: &mut W, format: Format, row: &T) -> Result<()> {
    let failed = |e: serde_json::Error| Error::invalid("export", e.to_string());
    match format {
        Format::JsonLines => write_line(out, &serde_json::to_string(row).map_err(failed)?),
        // The fields of a struct are given in their order, which is the header's.
        Format::Csv => write_line(out, &serde_csv(row).map_err(failed)?),
    }
}

/// Writes the fields of a flat struct as one CSV record.
fn serde_csv<T: Serialize>(row: &T) -> serde_json::Result<String> {
    let json = serde_json::to_string(row)?;
    let fields: Fields = serde_json::from_str(&json)?;
    Ok(fields.0.join(","))
}

/// The values of a JSON object in the order they are written in.
struct Fields(Vec<String>);

impl<'de> serde::Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a flat object")
            }

            fn visit_map<A>(self, mut map: A) -> std::result::Result<Fields, A::Error>
            where
                A: serde::de::MapAccess<'de>,
            {
                let mut fields = Vec::new();
                while let Some((_name, value)) = map.next_entry::<String, serde_json::Value>()? {
                    fields.push(match value {
                        serde_json::Value::Null => String::new(),
                        serde_json::Value::String(text) => csv_text(&text),
                        other => other.to_string(),
                    });
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Quotes a text as RFC 4180 asks and disarms what a spreadsheet would compute.
fn csv_text(text: &str) -> String {
    let is_number = text.strip_prefix('-').unwrap_or(text);
    let is_number = is_number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_formula = !is_number && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn write_line<W: Write>(out: &mut W, line: &str) -> Result<()> {
    writeln!(out, "{line}").map_err(|e| {
        let (kind, retry) = (ErrorKind::Unavailable, Retry::Unknown);
        Error::backend("export", "write", kind, retry, e)
    })
}
