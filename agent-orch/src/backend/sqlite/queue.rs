//! The queue: where a task that waits stands, and which one is next.
//!
//! ```text
//!  level (pool, priority)  ──►  flow (fairness key)  ──►  line (same agents, same limits)  ──►  task
//!  most urgent first            least virtual time        no limit of it is reached           oldest
//! ```
//!
//! Each claim moves the virtual time of its flow on by the inverse of the flow's weight, so that
//! flows take turns in proportion. Counts and heads are kept as tasks move, so that a claim costs
//! the same whatever the number of tasks.

use agent_core::RunId;
use agent_core::store::{Tx, sql};
use rusqlite::{OptionalExtension, params};

use super::limits;
use super::rows::{Bits, run_bits, unsigned};
use crate::error::Result;
use crate::journal::{ClaimRequest, Queue};
use crate::task::{Stage, Status, Task};

/// How far one claim moves the virtual time of a flow of weight one: a thousand times the greatest
/// weight, so that rounding costs a flow less than a thousandth of its share.
const TURN: i64 = 1_000_000;
/// The head of a line without tasks: behind every task.
const NO_HEAD: i64 = i64::MAX;

/// What decides where a task stands.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) seq: i64,
    pub(super) run: Bits,
    pub(super) pool: String,
    pub(super) rank: u8,
    pub(super) fair: String,
    /// A sorted JSON list of limit keys; empty for none.
    pub(super) limits: String,
    /// The agent that must not have it.
    pub(super) not_for: Option<Bits>,
    pub(super) stage: Stage,
    pub(super) status: Status,
    /// The line it stands in while it is ready.
    pub(super) line: Option<i64>,
}

impl Spot {
    /// Returns the spot the task has in another state.
    pub(super) fn moved(&self, after: &Task, avoid: Option<Bits>) -> Self {
        let not_for = match after.stage {
            Stage::Verify => after.author.map(|agent| Bits(agent.to_bits())),
            _ => avoid,
        };
        Self {
            pool: after.pool.clone(),
            not_for,
            stage: after.stage,
            status: after.status,
            ..self.clone()
        }
    }

    /// Returns the spot the task has in another status.
    pub(super) fn with_status(&self, status: Status) -> Self {
        Self {
            status,
            ..self.clone()
        }
    }

    /// The limits that count: verification and merging do not do what the limits are about.
    fn limits(&self) -> &str {
        match self.stage {
            Stage::Work => &self.limits,
            _ => "",
        }
    }

    fn not_for(&self) -> Vec<u8> {
        self.not_for
            .map_or_else(Vec::new, |bits| bits.0.to_be_bytes().to_vec())
    }
}

/// Reads where a task stands.
pub(super) fn spot(tx: &Tx<'_>, id: Bits) -> Result<Spot> {
    let (mut spot, stage, status) = tx
        .sql()
        .prepare_cached(
            "SELECT seq, run, pool, rank, fair, limits, iif(stage = 'verify', author, avoid),
                line, stage, status
             FROM orch_task WHERE id = ?1",
        )
        .and_then(|mut s| {
            s.query_row([id], |row| {
                let spot = Spot {
                    seq: row.get(0)?,
                    run: row.get(1)?,
                    pool: row.get(2)?,
                    rank: row.get(3)?,
                    fair: row.get(4)?,
                    limits: row.get(5)?,
                    not_for: row.get(6)?,
                    line: row.get(7)?,
                    stage: Stage::Work,
                    status: Status::Ready,
                };
                Ok((spot, row.get::<_, String>(8)?, row.get::<_, String>(9)?))
            })
        })
        .map_err(sql("find a task's place in the queue"))?;
    (spot.stage, spot.status) = (stage.parse()?, status.parse()?);
    Ok(spot)
}

/// Moves a task from one spot to another and returns the line it then stands in. Whoever writes
/// the status of a task calls this first and stores the line.
pub(super) fn shift(tx: &Tx<'_>, before: &Spot, after: &Spot) -> Result<Option<i64>> {
    leave(tx, before)?;
    match after.status {
        Status::Ready => {
            let line = line_of(tx, after)?;
            join(tx, line, 1, after.seq)?;
            Ok(Some(line))
        }
        Status::Leased => {
            limits::take(tx, after.limits())?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn leave(tx: &Tx<'_>, spot: &Spot) -> Result<()> {
    match (spot.status, spot.line) {
        (Status::Ready, Some(line)) => step_out(tx, line, spot.seq),
        (Status::Leased, _) => limits::give_back(tx, spot.limits()),
        _ => Ok(()),
    }
}

/// Returns the line of a spot, made if it is the first of its kind.
pub(super) fn line_of(tx: &Tx<'_>, spot: &Spot) -> Result<i64> {
    let flow = flow_of(tx, spot)?;
    let (keys, not_for) = (spot.limits(), spot.not_for());
    let found: Option<i64> = tx
        .sql()
        .prepare_cached("SELECT id FROM orch_line WHERE flow = ?1 AND limits = ?2 AND not_for = ?3")
        .and_then(|mut s| {
            s.query_row(params![flow, keys, not_for], |row| row.get(0))
                .optional()
        })
        .map_err(sql("find a line"))?;
    if let Some(line) = found {
        return Ok(line);
    }
    let n_blocked = limits::n_reached(tx, keys)?;
    let line = tx
        .sql()
        .prepare_cached(
            "INSERT INTO orch_line(flow, limits, not_for, n_ready, n_blocked, head)
             VALUES (?1, ?2, ?3, 0, ?4, ?5) RETURNING id",
        )
        .and_then(|mut s| {
            s.query_row(params![flow, keys, not_for, n_blocked, NO_HEAD], |row| {
                row.get(0)
            })
        })
        .map_err(sql("start a line"))?;
    limits::watch(tx, keys, line)?;
    Ok(line)
}

fn flow_of(tx: &Tx<'_>, spot: &Spot) -> Result<i64> {
    let key = params![spot.run, spot.pool, spot.rank, spot.fair];
    let found: Option<i64> = tx
        .sql()
        .prepare_cached(
            "SELECT id FROM orch_flow WHERE run = ?1 AND pool = ?2 AND rank = ?3 AND fair = ?4",
        )
        .and_then(|mut s| s.query_row(key, |row| row.get(0)).optional())
        .map_err(sql("find a flow"))?;
    if let Some(flow) = found {
        return Ok(flow);
    }
    tx.sql()
        .prepare_cached("INSERT OR IGNORE INTO orch_level VALUES (?1, ?2, ?3, 0, 0)")
        .and_then(|mut s| s.execute(params![spot.run, spot.pool, spot.rank]))
        .map_err(sql("start a level"))?;
    Ok(tx
        .sql()
        .prepare_cached(
            "INSERT INTO orch_flow(run, pool, rank, fair, vtime, n_open)
             VALUES (?1, ?2, ?3, ?4, 0, 0) RETURNING id",
        )
        .and_then(|mut s| s.query_row(key, |row| row.get(0)))
        .map_err(sql("start a flow"))?)
}

/// Adds ready tasks to a line, the oldest of which is `head`.
pub(super) fn join(tx: &Tx<'_>, line: i64, n: i64, head: i64) -> Result<()> {
    let (flow, n_blocked): (i64, i64) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_line SET n_ready = n_ready + ?2, head = min(head, ?3) WHERE id = ?1
             RETURNING flow, n_blocked",
        )
        .and_then(|mut s| s.query_row(params![line, n, head], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(sql("join a line"))?;
    if n_blocked == 0 {
        open(tx, flow, n)?;
    }
    Ok(())
}

/// Takes a task out of its line; the next oldest becomes the head if it was.
fn step_out(tx: &Tx<'_>, line: i64, seq: i64) -> Result<()> {
    let (flow, n_blocked): (i64, i64) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_line SET n_ready = n_ready - 1,
                head = iif(head <> ?2, head, coalesce(
                    (SELECT min(seq) FROM orch_task
                     WHERE line = ?1 AND status = 'ready' AND seq > ?2), ?3))
             WHERE id = ?1 RETURNING flow, n_blocked",
        )
        .and_then(|mut s| {
            s.query_row(params![line, seq, NO_HEAD], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        })
        .map_err(sql("leave a line"))?;
    if n_blocked == 0 {
        open(tx, flow, -1)?;
    }
    Ok(())
}

/// Changes how many tasks of a flow can be claimed. A flow that had none gets no credit for that:
/// its virtual time catches up with its level's.
pub(super) fn open(tx: &Tx<'_>, flow: i64, by: i64) -> Result<()> {
    if by == 0 {
        return Ok(());
    }
    let at: (Bits, String, u8) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_flow SET n_open = n_open + ?2,
                vtime = iif(n_open > 0, vtime, max(vtime, (SELECT l.vtime FROM orch_level l
                    WHERE l.run = orch_flow.run AND l.pool = orch_flow.pool
                        AND l.rank = orch_flow.rank)))
             WHERE id = ?1 RETURNING run, pool, rank",
        )
        .and_then(|mut s| {
            s.query_row(params![flow, by], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .map_err(sql("count a flow"))?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_level SET n_open = n_open + ?4 WHERE run = ?1 AND pool = ?2 AND rank = ?3",
        )
        .and_then(|mut s| s.execute(params![at.0, at.1, at.2, by]))
        .map_err(sql("count a level"))?;
    Ok(())
}

/// Finds the next task: walks the flows by urgency and virtual time and the lines of each by their
/// oldest task, and stops at the first that the agent may have.
const NEXT: &str = "
    SELECT t.id, f.id, f.vtime FROM orch_flow f
    CROSS JOIN orch_line l ON l.flow = f.id
    CROSS JOIN orch_task t ON t.seq = l.head
    WHERE f.run = ?1 AND f.pool = ?2 AND f.n_open > 0
        AND l.n_ready > 0 AND l.n_blocked = 0 AND l.not_for <> ?3
    ORDER BY f.rank, f.vtime, f.id, l.head LIMIT 1";

/// The task that is next for an agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) id: Bits,
    flow: i64,
    vtime: i64,
}

/// Finds the task that is next for an agent.
pub(super) fn head(tx: &Tx<'_>, request: &ClaimRequest) -> Result<Option<Head>> {
    let owner = Bits(request.owner.to_bits());
    Ok(tx
        .sql()
        .prepare_cached(NEXT)
        .and_then(|mut s| {
            let key = params![Bits(request.run.to_bits()), request.pool, owner];
            s.query_row(key, |row| {
                Ok(Head {
                    id: row.get(0)?,
                    flow: row.get(1)?,
                    vtime: row.get(2)?,
                })
            })
            .optional()
        })
        .map_err(sql("find the next task"))?)
}

/// Counts a claim as one turn of its flow.
pub(super) fn charge(tx: &Tx<'_>, head: Head) -> Result<()> {
    let at: (Bits, String, u8) = tx
        .sql()
        .prepare_cached(
            "UPDATE orch_flow SET vtime = vtime + ?2 / coalesce(
                (SELECT weight FROM orch_weight w
                 WHERE w.run = orch_flow.run AND w.fair = orch_flow.fair), 1)
             WHERE id = ?1 RETURNING run, pool, rank",
        )
        .and_then(|mut s| {
            s.query_row(params![head.flow, TURN], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .map_err(sql("count a turn"))?;
    tx.sql()
        .prepare_cached(
            "UPDATE orch_level SET vtime = max(vtime, ?4)
             WHERE run = ?1 AND pool = ?2 AND rank = ?3",
        )
        .and_then(|mut s| s.execute(params![at.0, at.1, at.2, head.vtime]))
        .map_err(sql("move a level's time"))?;
    Ok(())
}

/// Returns what agents of a run could claim.
pub(super) fn queues(tx: &Tx<'_>, run: RunId) -> Result<Vec<Queue>> {
    let mut statement = tx
        .sql()
        .prepare_cached(
            "SELECT pool, rank, n_open FROM orch_level WHERE run = ?1 AND n_open > 0
             ORDER BY pool, rank",
        )
        .map_err(sql("read the queues"))?;
    let rows = statement.query_map([run_bits(run)], |row| {
        Ok(Queue {
            pool: row.get(0)?,
            priority: row.get(1)?,
            n_ready: unsigned(row.get(2)?),
        })
    });
    Ok(rows
        .and_then(Iterator::collect)
        .map_err(sql("read the queues"))?)
}

#[cfg(test)]
mod tests {
    use super::super::schema::STEPS;
    use super::NEXT;

    /// A statement that sorts or scans would make a claim dearer with every task that waits.
    #[test]
    fn a_claim_walks_indexes_and_sorts_nothing() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        for step in STEPS {
            connection.execute_batch(step).unwrap();
        }
        let explain = format!("EXPLAIN QUERY PLAN {NEXT}");
        let mut statement = connection.prepare(&explain).unwrap();
        let key = ("run", "pool", "agent");
        let plan: Vec<String> = statement
            .query_map(key, |row| row.get(3))
            .and_then(Iterator::collect)
            .unwrap();
        assert_eq!(plan.len(), 3, "{plan:?}");
        assert!(
            plan.iter().all(|line| line.starts_with("SEARCH")),
            "{plan:?}"
        );
    }
}
