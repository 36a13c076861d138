//! A batch that was just stored.

use agent_core::IdempotencyKey;

use super::{BatchRow, TransferRow, name_transfer};
use crate::account::Account;
use crate::batch::Receipt;
use crate::error::{Error, Result};

/// What was stored.
pub(super) struct Posted {
    pub(super) row: BatchRow,
    pub(super) transfers: Vec<TransferRow>,
    pub(super) opened: Vec<Account>,
    pub(super) changed: Vec<Account>,
}

impl Posted {
    /// Names the accounts.
    pub(super) fn receipt(self, key: IdempotencyKey) -> Result<Receipt> {
        let find = |id: u64| {
            let mut all = self.opened.iter().chain(&self.changed);
            all.find(|account| account.id == id)
                .ok_or_else(|| Error::corrupt("an account of a batch is missing"))
        };
        let named = self
            .transfers
            .iter()
            .map(|t| Ok(name_transfer(t, find(t.debit)?, find(t.credit)?)))
            .collect::<Result<_>>()?;
        let row = &self.row;
        Ok(Receipt::new(row.seq, key, row.at, row.expires_at, named))
    }
}
