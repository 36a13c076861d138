//! The registry's rows. What an agent does is folded in where it is written anyway: in the
//! transactions of claims, ends of leases and audit records.

use agent_core::store::{Tx, sql};
use agent_core::{AgentId, Asset, Event, RunId, Scope, Timestamp};
use agent_identity::GrantId;
use agent_pay::BudgetPath;
use agent_pay::backend::sqlite as ledger;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::json;

use super::events::{self, Entry};
use super::rows::{Bits, Hash, column, from_json, run_bits, to_json, unsigned};
use crate::error::{Error, Result};
use crate::registry::{AgentQuery, AgentRecord, AgentState, NewAgent};

/// Enters agents, or brings them up to date.
pub(super) fn enroll(tx: &Tx<'_>, scope: &Scope, agents: &[NewAgent]) -> Result<()> {
    for agent in agents {
        refuse_retired(tx, agent.id)?;
        let mut grants: Vec<(GrantId, Timestamp)> = stored_grants(tx, agent.id)?;
        grants.retain(|grant| grant.1 > tx.now() && !agent.grants.contains(grant));
        grants.extend(&agent.grants);
        tx.sql()
            .prepare_cached(
                "INSERT INTO orch_agent
                    (id, did, name, pool, owner, purpose, version, grants, state, started_ms,
                     active_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'starting', ?9, ?9)
                 ON CONFLICT (id) DO UPDATE SET pool = ?4, owner = ?5, purpose = ?6, version = ?7,
                    grants = ?8, state = 'starting', started_ms = ?9",
            )
            .and_then(|mut s| {
                s.execute(params![
                    Bits(agent.id.to_bits()),
                    agent.did,
                    agent.name,
                    agent.pool,
                    agent.owner,
                    agent.purpose,
                    Hash(agent.version),
                    to_json(&grants).unwrap_or_default(),
                    tx.now().as_unix_ms(),
                ])
            })
            .map_err(sql("enter an agent"))?;
    }
    let pools: std::collections::BTreeSet<&str> = agents.iter().map(|a| a.pool.as_str()).collect();
    let payload = json!({ "agents": agents.len(), "pools": pools });
    events::append(tx, &Entry::of(scope, "agents.started", "", payload))?;
    Ok(())
}

fn stored_grants(tx: &Tx<'_>, id: AgentId) -> Result<Vec<(GrantId, Timestamp)>> {
    let found: Option<String> = tx
        .sql()
        .prepare_cached("SELECT grants FROM orch_agent WHERE id = ?1")
        .and_then(|mut s| {
            s.query_row([Bits(id.to_bits())], |row| row.get(0))
                .optional()
        })
        .map_err(sql("read an agent"))?;
    found.map_or(Ok(Vec::new()), |text| from_json(&text))
}

/// Returns an error if an agent is retired.
pub(super) fn refuse_retired(tx: &Tx<'_>, id: AgentId) -> Result<()> {
    let is_retired = tx
        .sql()
        .prepare_cached("SELECT 1 FROM orch_agent WHERE id = ?1 AND state = 'retired'")
        .and_then(|mut s| s.exists([Bits(id.to_bits())]))
        .map_err(sql("read an agent"))?;
    if is_retired {
        let refused = agent_core::Error::denied(id.to_string(), "the agent is retired");
        return Err(refused.into());
    }
    Ok(())
}

/// Notes that an agent took or gave up a task.
pub(super) fn touch(tx: &Tx<'_>, id: AgentId) -> Result<()> {
    tx.sql()
        .prepare_cached(
            "UPDATE orch_agent SET active_ms = ?2, state = 'idle'
             WHERE id = ?1 AND state <> 'retired'",
        )
        .and_then(|mut s| s.execute(params![Bits(id.to_bits()), tx.now().as_unix_ms()]))
        .map_err(sql("note an agent's activity"))?;
    Ok(())
}

/// Folds what supervision did into the registry.
pub(super) fn fold(tx: &Tx<'_>, event: &Event) -> Result<()> {
    let (text, key) = match event.kind.as_str() {
        "agent.restarted" => (
            "UPDATE orch_agent SET restarts = restarts + 1, state = 'restarting'
             WHERE name = ?1 AND state <> 'retired'",
            "agent",
        ),
        "pool.quarantined" => (
            "UPDATE orch_agent SET state = 'quarantined'
             WHERE pool IN (SELECT value FROM json_each(?1)) AND state <> 'retired'",
            "pools",
        ),
        "pool.released" => (
            "UPDATE orch_agent SET state = 'starting'
             WHERE pool IN (SELECT value FROM json_each(?1)) AND state = 'quarantined'",
            "pools",
        ),
        _ => return Ok(()),
    };
    let Some(value) = event.payload.get(key) else {
        return Ok(());
    };
    let value = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    tx.sql()
        .prepare_cached(text)
        .and_then(|mut s| s.execute([value]))
        .map_err(sql("note what supervision did"))?;
    Ok(())
}

/// Retires an agent and returns it as it was.
pub(super) fn retire(
    tx: &Tx<'_>,
    scope: &Scope,
    id: AgentId,
    asset: Asset,
    reason: &str,
) -> Result<AgentRecord> {
    let agent = load(tx, id, asset)?;
    if agent.state == AgentState::Working {
        let name = agent.agent.name;
        return Err(Error::invalid("agent", format!("{name} holds a task")));
    }
    tx.sql()
        .prepare_cached("UPDATE orch_agent SET state = 'retired' WHERE id = ?1")
        .and_then(|mut s| s.execute([Bits(id.to_bits())]))
        .map_err(sql("retire an agent"))?;
    if agent.state != AgentState::Retired {
        let payload = json!({ "agent": agent.agent.name, "reason": reason });
        events::append(
            tx,
            &Entry::of(scope, "agent.retired", &agent.agent.pool, payload),
        )?;
    }
    Ok(agent)
}

const SELECT: &str = "SELECT a.*, EXISTS (
        SELECT 1 FROM orch_task t WHERE t.status = 'leased' AND t.owner = a.id
    ) AS is_working FROM orch_agent a";

fn load(tx: &Tx<'_>, id: AgentId, asset: Asset) -> Result<AgentRecord> {
    let mut statement = tx
        .sql()
        .prepare_cached(&format!("{SELECT} WHERE a.id = ?1"))
        .map_err(sql("read an agent"))?;
    let mut rows = statement
        .query([Bits(id.to_bits())])
        .map_err(sql("read an agent"))?;
    match rows.next().map_err(sql("read an agent"))? {
        Some(row) => parse(tx, row, asset),
        None => Err(Error::not_found("agent", id.to_string())),
    }
}

/// Returns one page of agents, by name.
pub(super) fn page(tx: &Tx<'_>, query: &AgentQuery, asset: Asset) -> Result<Vec<AgentRecord>> {
    let text = format!(
        "{SELECT} WHERE a.name > ?1 AND (?2 IS NULL OR a.pool = ?2)
            AND (?3 OR a.state <> 'retired') ORDER BY a.name LIMIT ?4"
    );
    let mut statement = tx.sql().prepare_cached(&text).map_err(sql("list agents"))?;
    let limit = i64::try_from(AgentQuery::PAGE_MAX).unwrap_or(i64::MAX);
    let after = query.after.as_deref().unwrap_or_default();
    let mut rows = statement
        .query(params![after, query.pool, query.retired, limit])
        .map_err(sql("list agents"))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next().map_err(sql("list agents"))? {
        page.push(parse(tx, row, asset)?);
    }
    Ok(page)
}

fn parse(tx: &Tx<'_>, row: &Row<'_>, asset: Asset) -> Result<AgentRecord> {
    let name: String = column(row, "name")?;
    let stored: AgentState = column::<String>(row, "state")?.parse()?;
    let state = match stored {
        AgentState::Retired => stored,
        _ if column(row, "is_working")? => AgentState::Working,
        _ => stored,
    };
    let spent = ledger::balance(tx, asset, &BudgetPath::new(&name)?)?.spent;
    Ok(AgentRecord {
        agent: NewAgent {
            id: AgentId::from_bits(column::<Bits>(row, "id")?.0),
            did: column(row, "did")?,
            name,
            pool: column(row, "pool")?,
            owner: column(row, "owner")?,
            purpose: column(row, "purpose")?,
            version: column::<Hash>(row, "version")?.0,
            grants: from_json(&column::<String>(row, "grants")?)?,
        },
        state,
        started: Timestamp::from_unix_ms(column(row, "started_ms")?),
        active: Timestamp::from_unix_ms(column(row, "active_ms")?),
        restarts: unsigned(column(row, "restarts")?),
        spent,
    })
}

/// Counts the leased tasks of a run by pool.
pub(super) fn held(tx: &Tx<'_>, run: RunId) -> Result<std::collections::BTreeMap<String, u64>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT pool, COUNT(*) AS n FROM orch_task
             WHERE status = 'leased' AND run = ?1 GROUP BY pool",
        )
        .map_err(sql("count leases"))?;
    let mut rows = statement
        .query([run_bits(run)])
        .map_err(sql("count leases"))?;
    let mut held = std::collections::BTreeMap::new();
    while let Some(row) = rows.next().map_err(sql("count leases"))? {
        held.insert(column(row, "pool")?, unsigned(column(row, "n")?));
    }
    Ok(held)
}
