//! Resources of a provisioner that are gone through in turns.

use agent_core::store::Tx;

use crate::backend::sqlite::turn::Turns;
use crate::error::Result;
use crate::provision::ResourceName;

/// What something was begun with and nobody works on.
pub(super) const UNFINISHED: Turns = Turns {
    list: "provision unfinished",
    // The words of the index, or it is not used.
    select: "SELECT 0, name FROM pay_resource WHERE provisioner = ?5 AND ?1 <= 0 AND name > ?2 \
             AND condition NOT IN (1, 2, 8) AND lease_ms <= ?4 ORDER BY name LIMIT ?3",
};

/// What is ready and has a period to pay, or was not used for about as long as its plan says.
pub(super) const DUE: Turns = Turns {
    list: "provision due",
    select: "SELECT 0, name FROM pay_resource WHERE provisioner = ?5 AND ?1 <= 0 AND name > ?2 \
             AND condition = 1 AND (paid_ms <= ?4 \
             OR used_ms + 1000 * json_extract(plan, '$.idle_after.secs') <= ?4) \
             ORDER BY name LIMIT ?3",
};

/// Returns the next names of a provisioner at this moment.
pub(super) fn next(
    tx: &Tx<'_>,
    of: &Turns,
    provisioner: &str,
    limit: usize,
) -> Result<Vec<ResourceName>> {
    let now_ms = tx.now().as_unix_ms();
    let names: Vec<String> = of.page_of(tx, provisioner, (now_ms, limit), |row| row.get(1))?;
    names.into_iter().map(ResourceName::new).collect()
}
