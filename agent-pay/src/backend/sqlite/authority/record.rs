//! Decisions as they are stored, with everything they depended on, so that each can be made again.

use std::borrow::Cow;
use std::sync::Arc;

use agent_core::store::{Tx, sql};
use agent_core::{Amount, Timestamp};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::later::Decided;
use super::nodes::{self, number};
use crate::authority::{
    ApprovalState, Decision, Intent, Level, Limit, Meter, Outcome, Snapshot, decide,
};
use crate::error::{Error, Result};

/// A decision that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredDecision {
    /// Its number, counted from 1.
    pub id: u64,
    /// What was to be spent.
    pub intent: Intent,
    /// What it was decided on.
    pub snapshot: Snapshot,
    /// The code of the outcome: `allow`, `ask` or `deny`.
    pub outcome: &'static str,
    /// The rules that led to it, each with its node.
    pub rules: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    halted: bool,
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    approval: Option<u8>,
    held: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    funds: Option<i64>,
    /// For each level its policy's version, whether it is revoked, and its meters.
    levels: Vec<(u64, bool, Vec<StoredMeter>)>,
}

/// A limit, its most, and what is taken.
type StoredMeter = (StoredLimit, i64, i64);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredLimit {
    /// Its place in the policy; none for a budget that was opened without one.
    Place(Option<usize>),
    /// Itself, as version 1 has it.
    Written(Limit),
}

impl StoredLimit {
    fn of(level: &Level, limit: &Limit) -> Self {
        let limits = level.policy.iter().flat_map(|policy| &policy.limits);
        Self::Place(limits.into_iter().position(|known| known == limit))
    }

    fn restore(self, level: &Level, max: Amount) -> Result<Limit> {
        match self {
            Self::Written(limit) => Ok(limit),
            Self::Place(None) => nodes::lifetime(max),
            Self::Place(Some(n)) => {
                let limits = level.policy.as_ref().map(|policy| &policy.limits);
                let limit = limits.and_then(|limits| limits.get(n).copied());
                limit.ok_or_else(|| Error::corrupt("a snapshot has a limit its policy has not"))
            }
        }
    }
}

const VERSION: u32 = 2;

const fn outcome(outcome: &Outcome) -> (u8, &'static str) {
    match outcome {
        Outcome::Allow => (0, "allow"),
        Outcome::Ask { .. } => (1, "ask"),
        Outcome::Deny => (2, "deny"),
    }
}

/// Stores a decision about an intent, as JSON, and returns its number.
pub(super) fn keep(
    desk: &mut Desk<'_, '_>,
    intent: &Arc<str>,
    snapshot: &Snapshot,
    decision: &Decision,
) -> Result<u64> {
    /// What most snapshots are shorter than.
    const BYTES: usize = 256;
    let level = |level: &Level| {
        let meters = level.meters.iter();
        let meters = meters
            .map(|m| {
                let limit = StoredLimit::of(level, &m.limit);
                (limit, m.max_units, m.taken_units)
            })
            .collect();
        (level.version, level.is_revoked, meters)
    };
    let stored = Stored {
        v: VERSION,
        halted: snapshot.is_halted,
        known: snapshot.is_payee_known,
        approval: snapshot.approval.map(ApprovalState::code),
        held: snapshot.held_units,
        funds: snapshot.funds_units,
        levels: snapshot.levels.iter().map(level).collect(),
    };
    let json = |e: serde_json::Error| Error::invalid("decision", e.to_string());
    let mut text = Vec::with_capacity(BYTES);
    serde_json::to_writer(&mut text, &stored).map_err(json)?;
    let text = String::from_utf8(text).map_err(|e| Error::invalid("decision", e.to_string()))?;
    let rules: Vec<String> = decision.rules.iter().map(ToString::to_string).collect();
    let rules = match rules.is_empty() {
        true => Cow::Borrowed("[]"),
        false => Cow::Owned(serde_json::to_string(&rules).map_err(json)?),
    };
    desk.decide(Decided {
        at: snapshot.at,
        outcome: outcome(&decision.outcome).0,
        intent: Arc::clone(intent),
        snapshot: text,
        rules,
    })
}

/// Returns the intent of a decision.
pub(super) fn intent(tx: &Tx<'_>, id: u64) -> Result<Intent> {
    let text: String = tx
        .sql()
        .prepare_cached("SELECT intent FROM pay_decision WHERE id = ?1")
        .and_then(|mut select| select.query_row([number(id).unwrap_or(0)], |row| row.get(0)))
        .map_err(sql("read an intent"))?;
    read(&text, "intent")
}

/// Returns a stored decision; see
/// [`SqliteAuthority::decision`](super::SqliteAuthority::decision).
///
/// # Errors
/// As there.
pub fn decision(tx: &Tx<'_>, id: u64) -> Result<Option<StoredDecision>> {
    type Row = (i64, u8, String, String, String);
    let row: Option<Row> = tx
        .sql()
        .prepare_cached(
            "SELECT at_ms, outcome, intent, snapshot, rules FROM pay_decision WHERE id = ?1",
        )
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            };
            select.query_row([number(id).unwrap_or(0)], read).optional()
        })
        .map_err(sql("read a decision"))?;
    let Some((at_ms, code, intent, snapshot, rules)) = row else {
        return Ok(None);
    };
    let intent: Intent = read(&intent, "intent")?;
    let snapshot = restore(tx, at_ms, &intent, read(&snapshot, "snapshot")?)?;
    Ok(Some(StoredDecision {
        id,
        intent,
        snapshot,
        outcome: match code {
            0 => "allow",
            1 => "ask",
            2 => "deny",
            _ => return Err(Error::corrupt("the outcome of a decision")),
        },
        rules: read(&rules, "rules")?,
    }))
}

fn read<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::corrupt(format!("a stored {what}: {e}")))
}

fn restore(tx: &Tx<'_>, at_ms: i64, intent: &Intent, stored: Stored) -> Result<Snapshot> {
    if !(1..=VERSION).contains(&stored.v) {
        return Err(Error::corrupt(format!(
            "a snapshot of version {}",
            stored.v
        )));
    }
    let mut levels = Vec::new();
    for (node, (version, is_revoked, meters)) in intent.node.levels().into_iter().zip(stored.levels)
    {
        let policy = match version {
            0 => None,
            _ => nodes::policy(tx, &node, version)?.map(Arc::new),
        };
        let mut level = Level::new(node, version, is_revoked, policy, Vec::new());
        for (limit, max, taken) in meters {
            let most = Amount::from_units(max.into(), intent.amount_max.asset());
            let limit = limit.restore(&level, most)?;
            level.meters.push(Meter::new(limit, max, taken));
        }
        levels.push(level);
    }
    let mut snapshot = Snapshot::new(Timestamp::from_unix_ms(at_ms), levels);
    snapshot.is_halted = stored.halted;
    snapshot.is_payee_known = stored.known;
    snapshot.approval = stored.approval.map(ApprovalState::from_code).transpose()?;
    snapshot.held_units = stored.held;
    snapshot.funds_units = stored.funds;
    Ok(snapshot)
}

/// Makes a stored decision again and returns whether it comes out the same.
///
/// # Errors
/// `Invalid` if sums do not fit.
pub fn replay(stored: &StoredDecision) -> Result<bool> {
    let again = decide(&stored.snapshot, &stored.intent)?;
    let rules: Vec<String> = again.rules.iter().map(ToString::to_string).collect();
    Ok(outcome(&again.outcome).1 == stored.outcome && rules == stored.rules)
}
