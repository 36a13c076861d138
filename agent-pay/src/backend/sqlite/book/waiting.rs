//! What a transaction has yet to append to the journal.

use std::collections::BTreeSet;

use agent_core::store::Tx;
use agent_core::{IdempotencyKey, Timestamp};

use super::super::append::Append;
use super::{BLOCK, keys, stored};
use crate::error::Result;
use crate::journal::{BatchRow, TransferRow};

static BATCHES: Append = Append::new(
    "INSERT OR FAIL INTO pay_batch (key, request, origin, resolves, at_ms, expires_ms, \
     first_transfer, n_transfers, hash, memo) VALUES",
    10,
);
static TRANSFERS: Append = Append::new(
    "INSERT OR FAIL INTO pay_transfer (batch, debit, credit, units, kind, hold) VALUES",
    6,
);
/// What is listed already stays as it is.
static ACTIVITY: Append = Append::new("INSERT OR IGNORE INTO pay_activity VALUES", 2);

/// Rows at the end of the journal that are not stored yet, in their order.
#[derive(Default)]
pub(super) struct Waiting {
    batches: Vec<BatchRow>,
    transfers: Vec<TransferRow>,
    /// The accounts of these and their blocks.
    listed: Vec<(u64, u64)>,
    resolved: BTreeSet<u64>,
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns whether a batch waits, and with it its transfers.
    pub(super) fn has_batch(&self, seq: u64) -> bool {
        self.batches.first().is_some_and(|first| first.seq <= seq)
    }

    /// Returns whether a batch waits that resolves another.
    pub(super) fn resolves(&self, seq: u64) -> bool {
        self.resolved.contains(&seq)
    }

    /// Adds a batch and its transfers; `listed` are the blocks its accounts are first seen in.
    pub(super) fn add(
        &mut self,
        batch: &BatchRow,
        transfers: &[TransferRow],
        listed: &mut BTreeSet<(u64, u64)>,
    ) {
        self.resolved.extend(batch.resolves);
        self.batches.push(batch.clone());
        self.transfers.extend_from_slice(transfers);
        for t in transfers {
            for account in [t.debit, t.credit] {
                let place = (account, t.id / BLOCK);
                if listed.insert(place) {
                    self.listed.push(place);
                }
            }
        }
    }

    /// Stores everything. After an error the transaction must not be kept.
    pub(super) fn write(mut self, tx: &Tx<'_>) -> Result<()> {
        let last_seq = self.batches.last().map_or(0, |batch| batch.seq);
        BATCHES.run_to(tx, &self.batches, stored(last_seq)?, |values, batch| {
            values
                .put(batch.key.as_ref().map(IdempotencyKey::as_str))?
                .put(batch.request.as_bytes())?
                .put(batch.origin.code())?
                .put(batch.resolves.map(stored).transpose()?)?
                .put(batch.at.as_unix_ms())?
                .put(batch.expires_at.map(Timestamp::as_unix_ms))?
                .put(stored(batch.first_transfer)?)?
                .put(stored(batch.n_transfers)?)?
                .put(batch.hash.as_bytes())?
                .put(batch.memo.as_deref())?;
            Ok(())
        })?;
        let keyed = self.batches.iter().filter_map(|batch| {
            let key = batch.key.as_ref()?;
            Some((keys::hash(key.as_str()), stored(batch.seq)))
        });
        let listed = keyed.map(|(hash, seq)| seq.map(|seq| (hash, seq)));
        keys::put(tx, listed.collect::<Result<_>>()?)?;
        let last_id = self.transfers.last().map_or(0, |t| t.id);
        TRANSFERS.run_to(tx, &self.transfers, stored(last_id)?, |values, t| {
            values
                .put(stored(t.batch)?)?
                .put(stored(t.debit)?)?
                .put(stored(t.credit)?)?
                .put(t.units)?
                .put(t.kind.code())?
                .put(t.hold.map(stored).transpose()?)?;
            Ok(())
        })?;
        // Neighbours in the table one after another.
        self.listed.sort_unstable();
        ACTIVITY.run(tx, &self.listed, |values, (account, block)| {
            values.put(stored(*account)?)?.put(stored(*block)?)?;
            Ok(())
        })
    }
}
