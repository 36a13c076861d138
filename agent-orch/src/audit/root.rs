//! Signed roots: the host's word for the chain up to a record.

use agent_core::{Digest, Scope, Timestamp, canonical_json};
use agent_identity::{DidKey, Key, KeyStore, Purpose, Signature};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Audit;
use crate::error::Result;

/// The host's signature over the chain up to a record: who keeps it notices when that part of the
/// chain is altered or cut off, whoever does it and however well.
///
/// Signed is the canonical JSON of `{"v": 1, "seq": …, "head": …, "at": …}` for the purpose
/// `audit-root`; `seq` and `at` (milliseconds since 1970) are written as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Root {
    /// The last record it stands for.
    pub seq: u64,
    /// The hash of that record.
    pub head: Digest,
    /// When it was signed.
    pub at: Timestamp,
    /// Who signed it.
    pub signer: DidKey,
    /// The signature.
    pub signature: Signature,
}

impl Root {
    /// The kind of the record that takes note of a root.
    pub const KIND: &'static str = "audit.root";
    /// How far the end of the chain may have moved on when a root is stored: as many records as
    /// may be appended while it is signed, and as many hashes as whoever verifies remembers.
    pub const LAG_MAX: usize = 4_096;
    /// After how many records a root is signed unless a host chooses otherwise: what a forger could
    /// still change unnoticed, against a signature and a commit each.
    pub const EVERY_DEFAULT: u64 = 1_024;
    /// The most roots of one answer.
    pub const PAGE_MAX: usize = 1_000;
    const VERSION: u32 = 1;

    /// Has a key sign the end of a chain.
    ///
    /// # Errors
    /// The key store's.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is stored.
    pub async fn sign(
        audit: &Audit,
        at: Timestamp,
        keys: &dyn KeyStore,
        scope: &Scope,
        key: &Key,
    ) -> Result<Self> {
        let bytes = signed_bytes(audit.records, &audit.head, at)?;
        let signature = keys.sign(scope, key.id, Purpose::AUDIT_ROOT, bytes).await?;
        Ok(Self {
            seq: audit.records,
            head: audit.head,
            at,
            signer: key.did,
            signature,
        })
    }

    /// Checks the signature. Whether the signer is somebody to trust is the caller's question.
    ///
    /// # Errors
    /// `Denied` if the signer did not sign this.
    pub fn check(&self) -> Result<()> {
        let bytes = signed_bytes(self.seq, &self.head, self.at)?;
        let purpose = Purpose::AUDIT_ROOT;
        Ok(self.signer.verify(&purpose, &bytes, &self.signature)?)
    }
}

fn signed_bytes(seq: u64, head: &Digest, at: Timestamp) -> Result<Vec<u8>> {
    Ok(canonical_json(&json!({
        "v": Root::VERSION, "seq": seq.to_string(), "head": head,
        "at": at.as_unix_ms().to_string(),
    }))?)
}
