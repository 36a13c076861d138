//! Nodes, their policies, the kill switch, known payees.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::store::{Tx, sql};
use agent_core::{Asset, Digest, IdempotencyKey, Principal};
use parking_lot::Mutex;
use rusqlite::{OptionalExtension, params};

use super::super::book::{TxBook, stored};
use super::super::statement::run;
use crate::account::{AccountName, Guard};
use crate::authority::{Level, Limit, Policy, PolicyBook, Window};
use crate::batch::{Batch, Entry};
use crate::budget::{BudgetPath, OpenBudget, SetLimit, sync};
use crate::error::{Error, Result};
use crate::journal;

/// Policies that were read before, by their digest, so that a decision parses none.
#[derive(Debug, Default)]
pub struct PolicyCache(Mutex<BTreeMap<Digest, Arc<Policy>>>);

impl PolicyCache {
    /// The most policies kept; beyond that it starts anew.
    pub const POLICIES_MAX: usize = 20_000;

    fn get(&self, digest: Digest, read: impl FnOnce() -> Result<Policy>) -> Result<Arc<Policy>> {
        if let Some(policy) = self.0.lock().get(&digest) {
            return Ok(Arc::clone(policy));
        }
        let policy = Arc::new(read()?);
        let mut kept = self.0.lock();
        if kept.len() >= Self::POLICIES_MAX {
            kept.clear();
        }
        kept.insert(digest, Arc::clone(&policy));
        Ok(policy)
    }
}

/// Sets the policies of a book; see [`SqliteAuthority::apply`](super::SqliteAuthority::apply).
///
/// # Errors
/// As there.
pub fn apply(tx: &mut Tx<'_>, book: &PolicyBook, by: &Principal) -> Result<()> {
    for (node, policy) in book.nodes() {
        put(tx, node, policy, by)?;
    }
    Ok(())
}

/// Opens a node below another; see
/// [`SqliteAuthority::delegate`](super::SqliteAuthority::delegate).
///
/// # Errors
/// As there.
pub fn delegate(tx: &mut Tx<'_>, node: &BudgetPath, policy: &Policy, by: &Principal) -> Result<()> {
    let above = node
        .parent()
        .ok_or_else(|| Error::invalid("node", "a node of its own; a book defines those"))?;
    let parent = current(tx, &above)?.ok_or_else(|| Error::NodeNotFound {
        node: above.clone(),
    })?;
    if current(tx, node)?.is_some() {
        return Err(Error::invalid("node", "it is defined already"));
    }
    // A book of the two checks the form.
    PolicyBook::new()
        .with(BudgetPath::new("node")?, policy.clone())
        .map_err(Box::new)?;
    policy.narrows(&parent)?;
    put(tx, node, policy, by)
}

fn put(tx: &mut Tx<'_>, node: &BudgetPath, policy: &Policy, by: &Principal) -> Result<()> {
    let text =
        serde_json::to_string(policy).map_err(|e| Error::invalid("policy", e.to_string()))?;
    let digest = Digest::of_bytes(text.as_bytes());
    let before = current(tx, node)?;
    if before.as_ref() == Some(policy) {
        return Ok(());
    }
    let version: i64 = tx
        .sql()
        .prepare_cached("UPDATE pay_switch SET n_versions = n_versions + 1 RETURNING n_versions")
        .and_then(|mut next| next.query_row([], |row| row.get(0)))
        .map_err(sql("number a policy"))?;
    run(
        tx,
        "INSERT INTO pay_policy VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            node.as_str(),
            version,
            text,
            by.as_str(),
            tx.now().as_unix_ms()
        ],
    )?;
    run(
        tx,
        "INSERT INTO pay_node VALUES (?1, ?2, ?3, 0, ?4) ON CONFLICT (path) DO UPDATE SET \
         version = excluded.version, digest = excluded.digest, owner = excluded.owner",
        params![
            node.as_str(),
            version,
            digest.as_bytes(),
            policy.owner.as_ref().map(Principal::as_str)
        ],
    )?;
    open_accounts(tx, node, policy, before.as_ref(), version)
}

/// Opens the node's budgets and the control accounts of everything it limits.
fn open_accounts(
    tx: &Tx<'_>,
    node: &BudgetPath,
    policy: &Policy,
    before: Option<&Policy>,
    version: i64,
) -> Result<()> {
    let mut book = TxBook::new(tx);
    for limit in &policy.limits {
        open_controls(&mut book, limit.asset()?)?;
        if limit.window != Window::Lifetime || before.is_some_and(|b| b.limits.contains(limit)) {
            continue;
        }
        let max = agent_core::Amount::from_units(limit.max_units()?.into(), limit.asset()?);
        let open = OpenBudget::new(node.clone(), max);
        match sync::open_budget(&mut book, &open) {
            Ok(_balance) => {}
            Err(Error::LimitDiffers { .. }) => {
                let key = format!("policy/{version}/{}/{}", max.asset(), node);
                let key = Digest::of_bytes(key.as_bytes());
                let key = IdempotencyKey::new(format!("policy/{key}"))?;
                sync::set_limit(&mut book, &SetLimit::new(key, node.clone(), max))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens the other sides of all limits of an asset, once.
fn open_controls(book: &mut TxBook<'_, '_>, asset: Asset) -> Result<()> {
    let open = |name| AccountName::new(name).map(|a| Entry::open(asset, a, Guard::Unguarded));
    let entries = vec![open(super::hold::LIMITS)?, open(super::hold::SPENT)?];
    let key = IdempotencyKey::new(format!("agent-pay.controls/{asset}"))?;
    journal::post(book, &Batch::new(key, entries))?;
    Ok(())
}

/// Stops a node; see [`SqliteAuthority::revoke`](super::SqliteAuthority::revoke).
///
/// # Errors
/// As there.
pub fn revoke(tx: &mut Tx<'_>, node: &BudgetPath, is_revoked: bool) -> Result<()> {
    let statement = "UPDATE pay_node SET is_revoked = ?2 WHERE path = ?1";
    match run(tx, statement, params![node.as_str(), is_revoked])? {
        0 => Err(Error::NodeNotFound { node: node.clone() }),
        _ => Ok(()),
    }
}

/// Turns the kill switch; see [`SqliteAuthority::halt`](super::SqliteAuthority::halt).
///
/// # Errors
/// As there.
pub fn halt(tx: &mut Tx<'_>, is_halted: bool, by: &Principal) -> Result<()> {
    let statement = "UPDATE pay_switch SET is_halted = ?1, by_whom = ?2, at_ms = ?3";
    run(
        tx,
        statement,
        params![is_halted, by.as_str(), tx.now().as_unix_ms()],
    )?;
    Ok(())
}

/// Makes a payee known; see
/// [`SqliteAuthority::trust_payee`](super::SqliteAuthority::trust_payee).
///
/// # Errors
/// As there.
pub fn trust_payee(tx: &mut Tx<'_>, node: &BudgetPath, payee: &str) -> Result<()> {
    trust(tx, organisation(node), payee)
}

pub(super) fn trust(tx: &Tx<'_>, organisation: &str, payee: &str) -> Result<()> {
    let statement = "INSERT INTO pay_payee VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let values = params![organisation, payee, tx.now().as_unix_ms()];
    run(tx, statement, values)?;
    Ok(())
}

/// Returns the root of a node's tree, to which payees are known.
pub(super) fn organisation(node: &BudgetPath) -> &str {
    node.as_str().split('/').next().unwrap_or_default()
}

/// Reads a level without its meters.
pub(super) fn level(tx: &Tx<'_>, cache: &PolicyCache, node: BudgetPath) -> Result<Level> {
    let row: Option<(i64, [u8; 32], bool)> = tx
        .sql()
        .prepare_cached("SELECT version, digest, is_revoked FROM pay_node WHERE path = ?1")
        .and_then(|mut select| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            select.query_row([node.as_str()], read).optional()
        })
        .map_err(sql("read a node"))?;
    let Some((version, digest, is_revoked)) = row else {
        return Ok(Level::new(node, 0, false, None, Vec::new()));
    };
    let version = u64::try_from(version).map_err(|_sign| Error::corrupt("a policy's version"))?;
    let policy = cache.get(Digest::from_bytes(digest), || {
        policy(tx, &node, version)?.ok_or_else(|| Error::corrupt(format!("{node} has no policy")))
    })?;
    Ok(Level::new(
        node,
        version,
        is_revoked,
        Some(policy),
        Vec::new(),
    ))
}

/// Reads a policy of the history.
pub(super) fn policy(tx: &Tx<'_>, node: &BudgetPath, version: u64) -> Result<Option<Policy>> {
    let text: Option<String> = tx
        .sql()
        .prepare_cached("SELECT policy FROM pay_policy WHERE path = ?1 AND version = ?2")
        .and_then(|mut select| {
            let values = params![node.as_str(), i64::try_from(version).unwrap_or(i64::MAX)];
            select.query_row(values, |row| row.get(0)).optional()
        })
        .map_err(sql("read a policy"))?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| Error::corrupt(format!("a stored policy: {e}")))
}

fn current(tx: &Tx<'_>, node: &BudgetPath) -> Result<Option<Policy>> {
    let version: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT version FROM pay_node WHERE path = ?1")
        .and_then(|mut select| {
            select
                .query_row([node.as_str()], |row| row.get(0))
                .optional()
        })
        .map_err(sql("read a node"))?;
    match version.map(u64::try_from) {
        None => Ok(None),
        Some(version) => policy(
            tx,
            node,
            version.map_err(|_sign| Error::corrupt("a version"))?,
        ),
    }
}

/// Returns the nodes whose owner somebody is.
pub(super) fn owned(tx: &Tx<'_>, who: &Principal) -> Result<Vec<BudgetPath>> {
    let operation = "read the nodes of an owner";
    let mut select = tx
        .sql()
        .prepare_cached("SELECT path FROM pay_node WHERE owner = ?1 ORDER BY path")
        .map_err(sql(operation))?;
    let mut rows = select.query([who.as_str()]).map_err(sql(operation))?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next().map_err(sql(operation))? {
        let path: String = row.get(0).map_err(sql(operation))?;
        nodes.push(BudgetPath::new(&path)?);
    }
    Ok(nodes)
}

/// The accounts of counts need their asset where it is used.
pub(super) fn lifetime(amount: agent_core::Amount) -> Result<Limit> {
    Limit::new(crate::authority::Measure::Amount(amount), Window::Lifetime)
}

/// Returns whether the kill switch is on.
pub(super) fn is_halted(tx: &Tx<'_>) -> Result<bool> {
    tx.sql()
        .prepare_cached("SELECT is_halted FROM pay_switch WHERE one = 1")
        .and_then(|mut select| select.query_row([], |row| row.get(0)))
        .map_err(|e| sql("read the kill switch")(e).into())
}

/// Returns whether an organisation knows a payee.
pub(super) fn is_known(tx: &Tx<'_>, organisation: &str, payee: &str) -> Result<bool> {
    tx.sql()
        .prepare_cached("SELECT 1 FROM pay_payee WHERE organisation = ?1 AND name = ?2")
        .and_then(|mut select| select.exists([organisation, payee]))
        .map_err(|e| sql("look for a payee")(e).into())
}

/// Converts a number to SQLite's; a name for the caller's sake.
pub(super) fn number(n: u64) -> Result<i64> {
    stored(n)
}
