//! Requests for approval and votes on them.

use agent_core::store::{Tx, sql};
use agent_core::{Digest, Principal, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::super::statement::run;
use super::nodes;
use crate::authority::{
    ApprovalRequest, ApprovalState, Authorization, Decision, Intent, Outcome, Snapshot, Vote,
    may_approve,
};
use crate::budget::BudgetPath;
use crate::error::{Error, Result};

const REQUEST: &str = "SELECT digest, node, approvers, quorum, expires_ms, state FROM pay_approval";
/// The most requests of a page: what a console shows at most.
const PAGE: i64 = 1_000;

/// Opens a request, or finds the open one.
pub(super) fn ask(
    tx: &Tx<'_>,
    intent: &Intent,
    digest: Digest,
    decision: &Decision,
) -> Result<Authorization> {
    let Outcome::Ask {
        node,
        approvers,
        quorum,
        expires_at,
    } = &decision.outcome
    else {
        return Err(Error::corrupt("a question that is none"));
    };
    if let Some(mut open) = approval(tx, &digest)?
        && open.state == ApprovalState::Open
    {
        open.rules.clone_from(&decision.rules);
        return Ok(Authorization::NeedsApproval(open));
    }
    let json = |e: serde_json::Error| Error::invalid("intent", e.to_string());
    let key = digest.to_string();
    // Votes on an earlier request that ran out do not count for this one.
    run(tx, "DELETE FROM pay_vote WHERE digest = ?1", [&key])?;
    run(
        tx,
        "INSERT OR REPLACE INTO pay_approval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            key,
            serde_json::to_string(intent).map_err(json)?,
            node.as_str(),
            serde_json::to_string(approvers).map_err(json)?,
            quorum,
            expires_at.as_unix_ms(),
            ApprovalState::Open.code(),
        ],
    )?;
    Ok(Authorization::NeedsApproval(ApprovalRequest {
        digest,
        node: node.clone(),
        approvers: approvers.clone(),
        quorum: *quorum,
        expires_at: *expires_at,
        state: ApprovalState::Open,
        rules: decision.rules.clone(),
    }))
}

/// Uses up the approval a decision was made with.
pub(super) fn consume(tx: &Tx<'_>, snapshot: &Snapshot, digest: &Digest) -> Result<()> {
    if snapshot.approval == Some(ApprovalState::Granted) {
        set_state(tx, digest, ApprovalState::Used)?;
    }
    Ok(())
}

/// Answers a request; see [`SqliteAuthority::vote`](super::SqliteAuthority::vote).
///
/// # Errors
/// As there.
pub fn vote(
    tx: &mut Tx<'_>,
    digest: &Digest,
    who: &Principal,
    vote: Vote,
) -> Result<ApprovalRequest> {
    let digest_of = *digest;
    let found = approval(tx, digest)?;
    let mut request = found.ok_or(Error::ApprovalNotFound { digest: digest_of })?;
    let intent = intent(tx, digest)?;
    let owned = nodes::owned(tx, who)?;
    may_approve(who, &request.approvers, &intent, &owned).map_err(|reason| {
        let who = who.clone();
        Error::NotAnApprover { who, reason }
    })?;
    let votes = votes(tx, digest)?;
    if votes.contains(&(who.as_str().to_owned(), code(vote))) {
        return Ok(request);
    }
    if request.state != ApprovalState::Open {
        let state = request.state;
        return Err(Error::ApprovalClosed {
            digest: digest_of,
            state,
        });
    }
    run(
        tx,
        "INSERT INTO pay_vote VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (digest, who) DO UPDATE SET vote = excluded.vote, at_ms = excluded.at_ms",
        params![
            digest.to_string(),
            who.as_str(),
            code(vote),
            tx.now().as_unix_ms()
        ],
    )?;
    let n_others = votes
        .iter()
        .filter(|(voter, vote)| *vote == 1 && voter != who.as_str());
    let n_agreed = u32::try_from(n_others.count())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    request.state = match vote {
        Vote::Refuse => ApprovalState::Refused,
        Vote::Approve if n_agreed >= request.quorum => ApprovalState::Granted,
        Vote::Approve => ApprovalState::Open,
    };
    set_state(tx, digest, request.state)?;
    Ok(request)
}

const fn code(vote: Vote) -> u8 {
    match vote {
        Vote::Refuse => 0,
        Vote::Approve => 1,
    }
}

fn set_state(tx: &Tx<'_>, digest: &Digest, state: ApprovalState) -> Result<()> {
    let statement = "UPDATE pay_approval SET state = ?2 WHERE digest = ?1";
    run(tx, statement, params![digest.to_string(), state.code()])?;
    Ok(())
}

fn votes(tx: &Tx<'_>, digest: &Digest) -> Result<Vec<(String, u8)>> {
    let operation = "read votes";
    let mut select = tx
        .sql()
        .prepare_cached("SELECT who, vote FROM pay_vote WHERE digest = ?1")
        .map_err(sql(operation))?;
    let rows = select.query_map([digest.to_string()], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: rusqlite::Result<_> = rows.and_then(Iterator::collect);
    Ok(rows.map_err(sql(operation))?)
}

fn intent(tx: &Tx<'_>, digest: &Digest) -> Result<Intent> {
    let text: String = tx
        .sql()
        .prepare_cached("SELECT intent FROM pay_approval WHERE digest = ?1")
        .and_then(|mut select| select.query_row([digest.to_string()], |row| row.get(0)))
        .map_err(sql("read a request"))?;
    serde_json::from_str(&text).map_err(|e| Error::corrupt(format!("a stored intent: {e}")))
}

/// Returns a request for approval by the digest of its intent, with the state it has at this time.
///
/// # Errors
/// Those of the store.
pub fn approval(tx: &Tx<'_>, digest: &Digest) -> Result<Option<ApprovalRequest>> {
    let operation = "read a request";
    let mut select = tx
        .sql()
        .prepare_cached(&format!("{REQUEST} WHERE digest = ?1"))
        .map_err(sql(operation))?;
    let now = tx.now();
    let found = select.query_row([digest.to_string()], |row| Ok(request(row, now)));
    found.optional().map_err(sql(operation))?.transpose()
}

/// Lists open requests; see
/// [`SqliteAuthority::open_requests`](super::SqliteAuthority::open_requests).
///
/// # Errors
/// As there.
pub fn open_requests(tx: &Tx<'_>, after: Option<Digest>) -> Result<Vec<ApprovalRequest>> {
    let operation = "list requests";
    let mut select = tx
        .sql()
        .prepare_cached(&format!(
            "{REQUEST} WHERE state = 0 AND digest > ?1 AND expires_ms > ?2 ORDER BY digest LIMIT ?3"
        ))
        .map_err(sql(operation))?;
    let after = after.map_or_else(String::new, |digest| digest.to_string());
    let now = tx.now();
    let mut rows = select
        .query(params![after, now.as_unix_ms(), PAGE])
        .map_err(sql(operation))?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next().map_err(sql(operation))? {
        requests.push(request(row, now)?);
    }
    Ok(requests)
}

fn request(row: &Row<'_>, now: Timestamp) -> Result<ApprovalRequest> {
    let text = |n| row.get::<_, String>(n).map_err(sql("read a request"));
    let expires_ms: i64 = row.get(4).map_err(sql("read a request"))?;
    let expires_at = Timestamp::from_unix_ms(expires_ms);
    let state = ApprovalState::from_code(row.get(5).map_err(sql("read a request"))?)?;
    let is_waiting = matches!(state, ApprovalState::Open | ApprovalState::Granted);
    let is_over = is_waiting && expires_at <= now;
    Ok(ApprovalRequest {
        digest: text(0)?.parse()?,
        node: BudgetPath::new(&text(1)?)?,
        approvers: serde_json::from_str(&text(2)?)
            .map_err(|e| Error::corrupt(format!("stored approvers: {e}")))?,
        quorum: row.get(3).map_err(sql("read a request"))?,
        expires_at,
        state: if is_over {
            ApprovalState::Expired
        } else {
            state
        },
        rules: Vec::new(),
    })
}
