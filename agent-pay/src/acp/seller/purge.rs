//! What a seller need not keep.

use std::time::Duration;

use agent_core::Timestamp;

use super::{SCOPE, Seller};
use crate::acp::store;
use crate::backend::sqlite::authority;
use crate::error::{Error, Result};

/// What a seller forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Sessions that expired or were canceled: what was in them. That they ended is kept.
    pub n_sessions: usize,
    /// Tokens of delegated payments whose allowance ended, and their cards in the vault.
    pub n_tokens: usize,
    /// Tokens that are over and whose card the vault did not forget yet; ask again later.
    pub n_tokens_left: usize,
    /// Answers to keys.
    pub n_answers: usize,
}

impl Seller {
    /// Forgets what ended longer than `kept` ago, at most `limit` of each kind: what was in sessions that
    /// expired or were canceled, tokens whose allowance ended, used or not, with their cards, and answers that
    /// are given again to their keys, which are kept for a day at least after their request came. Orders stay, and so does
    /// everything of a payment whose outcome is not known. Call it from time to time.
    ///
    /// Of a session its id, its agent, its times and how it ended are kept, some 400 bytes, and shown: an
    /// agent that was never told that its session ended holds the money until it asks.
    ///
    /// A card that the vault does not forget waits until all others had their turn: the next call goes
    /// on with those after it. A card leaves the vault before its token is forgotten here, so that a crash between the two
    /// forgets it again and leaves none behind.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Repeat it.
    pub async fn purge(&self, kept: Duration, limit: usize) -> Result<Purged> {
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.clock.now().as_unix_ms().saturating_sub(kept_ms);
        let before = Timestamp::from_unix_ms(before_ms);
        let ended = self
            .db
            .write(move |tx| store::ended_tokens(tx, before, limit));
        let (mut purged, mut gone) = (Purged::default(), Vec::new());
        for (digest, vaulted) in ended.await? {
            let is_gone = match &self.vault {
                Some(vault) => vault.forget(&vaulted).await.is_ok(),
                None => false,
            };
            if is_gone {
                gone.push(digest);
                purged.n_tokens = purged.n_tokens.saturating_add(1);
            } else {
                purged.n_tokens_left = purged.n_tokens_left.saturating_add(1);
            }
        }
        let write = self.db.write(move |tx| {
            for digest in &gone {
                store::remove_token(tx, digest)?;
            }
            let n_sessions = store::purge_sessions(tx, before, limit)?;
            Ok::<_, Error>((n_sessions, authority::purge(tx, SCOPE, kept, limit)?))
        });
        (purged.n_sessions, purged.n_answers) = write.await?;
        Ok(purged)
    }
}
