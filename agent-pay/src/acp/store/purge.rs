//! What is over, and goes.

use agent_core::Timestamp;
use agent_core::store::{Tx, sql};
use rusqlite::params;

use super::{read_doc, write_doc};
use crate::backend::sqlite::statement::run;
use crate::backend::sqlite::turn::Turns;
use crate::error::Result;

/// Forgets what was in sessions that ended before a moment. That they ended is kept: an agent that was
/// not told asks late, and holds its money until it knows.
pub(in crate::acp) fn purge_sessions(
    tx: &mut Tx<'_>,
    before: Timestamp,
    limit: usize,
) -> Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let select = "SELECT id, doc FROM pay_acp_session WHERE ends_ms < ?1 ORDER BY ends_ms LIMIT ?2";
    let found = tx.sql().prepare_cached(select).and_then(|mut select| {
        let values = params![before.as_unix_ms(), limit];
        let rows = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
    });
    let found = found.map_err(sql("list what ended"))?;
    for (id, doc) in &found {
        match read_doc(doc) {
            Ok(session) => {
                let update = "UPDATE pay_acp_session SET version = version + 1, doc = ?2, \
                              ends_ms = NULL WHERE id = ?1";
                run(tx, update, params![id, write_doc(&session.forgotten())?])?;
            }
            // Nobody can read how it ended, and it must not keep the others.
            Err(_unreadable) => {
                run(tx, "DELETE FROM pay_acp_session WHERE id = ?1", [id])?;
            }
        }
    }
    Ok(found.len())
}

/// Tokens in the order they end in. Of a session whose payment is not known they stay: it may have been
/// taken with them.
const ENDED: Turns = Turns {
    list: "acp ended",
    select: "SELECT ends_ms, token, vault FROM pay_acp_token WHERE ends_ms < ?4 \
             AND (ends_ms, token) > (?1, ?2) AND NOT EXISTS \
             (SELECT 1 FROM pay_acp_session WHERE is_paying = 1 \
             AND id = json_extract(allowance, '$.checkout_session_id')) \
             ORDER BY ends_ms, token LIMIT ?3",
};

/// Returns the digests of some tokens that ended before a moment, and what the vault calls their cards;
/// others the next time.
pub(in crate::acp) fn ended_tokens(
    tx: &Tx<'_>,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<(String, String)>> {
    ENDED.next(tx, before.as_unix_ms(), limit, |row| {
        Ok((row.get(1)?, row.get(2)?))
    })
}

pub(in crate::acp) fn remove_token(tx: &mut Tx<'_>, digest: &str) -> Result<()> {
    run(tx, "DELETE FROM pay_acp_token WHERE token = ?1", [digest])?;
    Ok(())
}
