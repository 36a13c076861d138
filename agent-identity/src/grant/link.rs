//! One signed link of a grant and its stored form.

use agent_core::{Amount, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::capability::{Capability, Widening, is_storable};
use super::pattern::Pattern;
use crate::did::DidKey;
use crate::error::{Error, Result};
use crate::signature::{Purpose, Signature};

agent_core::define_id!(
    /// A link of a grant, named by the digest of what it says: whoever revokes it revokes nothing
    /// else, and nobody can make another link of the same id.
    GrantId, "grant"
);

/// What a link grants, to whom and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// Who may use the grant.
    pub subject: DidKey,
    /// What it permits.
    pub capabilities: Vec<Capability>,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// How many further delegations it allows.
    pub depth: u8,
    /// Tells grants apart that are otherwise the same.
    pub nonce: String,
}

impl Terms {
    /// The most capabilities of a link.
    pub const CAPABILITIES_MAX: usize = 64;
    /// The longest nonce in bytes.
    pub const NONCE_BYTES_MAX: usize = 64;

    /// Grants capabilities until a moment: valid at once, not to be delegated, no nonce.
    #[must_use]
    pub const fn new(subject: DidKey, capabilities: Vec<Capability>, expires: Timestamp) -> Self {
        Self {
            subject,
            capabilities,
            not_before: Timestamp::EPOCH,
            expires,
            depth: 0,
            nonce: String::new(),
        }
    }

    /// Sets when the grant begins. Default: at once.
    #[must_use]
    pub const fn with_not_before(mut self, at: Timestamp) -> Self {
        self.not_before = at;
        self
    }

    /// Lets the grant be delegated this many links further. Default: 0, not at all.
    #[must_use]
    pub const fn with_depth(mut self, depth: u8) -> Self {
        self.depth = depth;
        self
    }

    /// Sets a text that makes the grant another one than a grant of equal terms: its limits are
    /// counted, and it is revoked, by itself. Default: empty, so that issuing the same terms again
    /// gives the same grant.
    #[must_use]
    pub fn with_nonce(mut self, nonce: impl Into<String>) -> Self {
        self.nonce = nonce.into();
        self
    }

    fn check(&self) -> Result<()> {
        let bad = |reason: &'static str| Err(Error::invalid("grant", reason));
        if self.capabilities.is_empty() || self.capabilities.len() > Self::CAPABILITIES_MAX {
            return bad("expected 1 to 64 capabilities");
        }
        if self.nonce.len() > Self::NONCE_BYTES_MAX {
            return bad("the nonce is longer than 64 bytes");
        }
        if !is_storable(self.not_before) || !is_storable(self.expires) {
            return bad("a moment is before 1970 or above 2^53 - 1 milliseconds");
        }
        if self.not_before >= self.expires {
            return bad("it ends before it begins");
        }
        self.capabilities.iter().try_for_each(Capability::check)
    }
}

/// A link whose signature is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Its id.
    pub id: GrantId,
    /// Who granted it.
    pub issuer: DidKey,
    /// What it grants.
    pub terms: Terms,
    pub(super) parent: Option<Digest>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Signature,
}

/// The signed form, as canonical JSON (JCS, RFC 8785).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    issuer: DidKey,
    subject: DidKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Digest>,
    nbf: i64,
    exp: i64,
    depth: u8,
    nonce: String,
    caps: Vec<WireCapability>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCapability {
    action: String,
    target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spend: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

impl From<&Capability> for WireCapability {
    fn from(capability: &Capability) -> Self {
        Self {
            action: capability.action.to_string(),
            target: capability.target.to_string(),
            spend: capability.spend_max,
            calls: capability.calls_max,
            exp: capability.expires.map(Timestamp::as_unix_ms),
        }
    }
}

impl TryFrom<WireCapability> for Capability {
    type Error = Error;

    fn try_from(wire: WireCapability) -> Result<Self> {
        Ok(Self {
            action: Pattern::new(&wire.action)?,
            target: Pattern::new(&wire.target)?,
            spend_max: wire.spend,
            calls_max: wire.calls,
            expires: wire.exp.map(Timestamp::from_unix_ms),
        })
    }
}

impl Link {
    const VERSION: u32 = 1;
    /// The longest signed form in bytes: 64 capabilities of common length.
    pub(super) const PAYLOAD_BYTES_MAX: usize = 16 * 1_024;

    /// Writes the form that is signed.
    pub(super) fn payload(issuer: DidKey, parent: Option<&Self>, terms: &Terms) -> Result<Vec<u8>> {
        terms.check()?;
        let wire = Wire {
            v: Self::VERSION,
            issuer,
            subject: terms.subject,
            parent: parent.map(Self::digest),
            nbf: terms.not_before.as_unix_ms(),
            exp: terms.expires.as_unix_ms(),
            depth: terms.depth,
            nonce: terms.nonce.clone(),
            caps: terms.capabilities.iter().map(Into::into).collect(),
        };
        let payload = canonical(&wire)?;
        if payload.len() > Self::PAYLOAD_BYTES_MAX {
            return Err(Error::invalid("grant", "longer than 16 KiB"));
        }
        Ok(payload)
    }

    /// Reads a signed form, which must be canonical, and verifies its signature.
    pub(super) fn verify(payload: Vec<u8>, signature: Signature) -> Result<Self> {
        let bad = |reason: &'static str| Error::invalid("grant", reason);
        if payload.len() > Self::PAYLOAD_BYTES_MAX {
            return Err(bad("a link is longer than 16 KiB"));
        }
        let wire: Wire = serde_json::from_slice(&payload)
            .map_err(|e| Error::invalid("grant", format!("a link is malformed: {e}")))?;
        if wire.v != Self::VERSION {
            return Err(bad("the version of a link is unknown"));
        }
        // Two spellings of one link would be two grants to whoever revokes by digest.
        if canonical(&wire)? != payload {
            return Err(bad("a link is not canonical JSON"));
        }
        let (issuer, parent) = (wire.issuer, wire.parent);
        issuer.verify(&Purpose::GRANT, &payload, &signature)?;
        let capabilities = wire
            .caps
            .into_iter()
            .map(Capability::try_from)
            .collect::<Result<_>>()?;
        let terms = Terms {
            subject: wire.subject,
            capabilities,
            not_before: Timestamp::from_unix_ms(wire.nbf),
            expires: Timestamp::from_unix_ms(wire.exp),
            depth: wire.depth,
            nonce: wire.nonce,
        };
        terms.check()?;
        Ok(Self {
            id: GrantId::from_bits(Digest::of_bytes(&payload).to_bits()),
            issuer,
            terms,
            parent,
            payload,
            signature,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of_bytes(&self.payload)
    }

    /// Returns in which respect `child` grants more than this link, or for each capability of the
    /// child the position of the one it is part of.
    pub(super) fn attenuation(&self, child: &Terms) -> Result<Vec<usize>, Widening> {
        let parent = &self.terms;
        if parent.depth <= child.depth {
            return Err(Widening::Depth {
                parent: parent.depth,
                child: child.depth,
            });
        }
        if child.expires > parent.expires {
            return Err(Widening::Expiry {
                parent: parent.expires,
                child: child.expires,
            });
        }
        if child.not_before < parent.not_before {
            return Err(Widening::NotBefore {
                parent: parent.not_before,
                child: child.not_before,
            });
        }
        child
            .capabilities
            .iter()
            .enumerate()
            .map(|(index, capability)| self.cover(capability, index))
            .collect()
    }

    /// Finds the first capability that includes `child`; the reason for refusing names the limit
    /// in the way if only a limit is.
    fn cover(&self, child: &Capability, index: usize) -> Result<usize, Widening> {
        let mut refused = None;
        for (position, parent) in self.terms.capabilities.iter().enumerate() {
            match parent.widening(child, index) {
                None => return Ok(position),
                Some(unrelated @ Widening::Capability { .. }) => {
                    refused = refused.or(Some(unrelated));
                }
                Some(limit) => refused = Some(limit),
            }
        }
        Err(refused.unwrap_or_else(|| Widening::Capability {
            index,
            action: child.action.clone(),
            target: child.target.clone(),
        }))
    }
}

fn canonical(wire: &Wire) -> Result<Vec<u8>> {
    serde_json_canonicalizer::to_vec(wire).map_err(|e| Error::invalid("grant", e.to_string()))
}
