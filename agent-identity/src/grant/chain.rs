//! A verified chain of links: making, reading and asking it.

use std::fmt;

use agent_core::{Amount, Digest, Effect, Scope, Timestamp, Verdict};
use base64ct::{Base64UrlUnpadded, Encoding};

use super::link::{GrantId, Link, Terms};
use crate::did::DidKey;
use crate::error::{Error, Result};
use crate::grant_store::Counter;
use crate::key_store::{Key, KeyStore};
use crate::signature::{Purpose, Signature};

/// A grant from a trusted issuer through delegations to its holder.
///
/// A value of this type is always verified: every signature holds, every link was signed by the
/// subject of the one before, and none grants more than it. Time and revocation are asked at use.
///
/// Written `agentgrant1.<payload>.<signature>…`, with the parts in base64url and the payloads in
/// canonical JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantChain {
    /// At least one.
    links: Vec<Link>,
    /// For each link behind the first and each of its capabilities the position of the capability
    /// before that includes it.
    covers: Vec<Vec<usize>>,
}

/// Why a chain does not permit an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotYetValid,
    Expired,
    NotCovered,
    OverLimit,
}

impl GrantChain {
    /// The most links: an organisation, a team, a supervisor, a pool, an agent, and room.
    pub const LINKS_MAX: usize = 8;
    /// The longest text in bytes.
    pub const TEXT_BYTES_MAX: usize = 64 * 1_024;
    const PREFIX: &'static str = "agentgrant1";

    /// Issues a root grant, signed by `issuer` of the key store.
    ///
    /// # Errors
    /// `Invalid` for terms out of bounds; those of [`KeyStore::sign`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn issue(
        keys: &dyn KeyStore,
        scope: &Scope,
        issuer: &Key,
        terms: &Terms,
    ) -> Result<Self> {
        let payload = Link::payload(issuer.did, None, terms)?;
        let link = sign(keys, scope, issuer, payload).await?;
        Self::link_up(vec![link])
    }

    /// Hands part of the grant on, signed by its holder.
    ///
    /// # Errors
    /// `Denied` if the terms are wider than this grant, with the respect in which they are;
    /// `Invalid` if `holder` does not hold it or the chain gets too long; those of
    /// [`KeyStore::sign`].
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is changed.
    pub async fn delegate(
        &self,
        keys: &dyn KeyStore,
        scope: &Scope,
        holder: &Key,
        terms: &Terms,
    ) -> Result<Self> {
        let link = self.links.len();
        let last = self.last()?;
        if holder.did != last.terms.subject {
            return Err(Error::Broken {
                link,
                reason: "its issuer does not hold the grant",
            });
        }
        last.attenuation(terms)
            .map_err(|by| Error::Widened { link, by })?;
        let payload = Link::payload(holder.did, Some(last), terms)?;
        let signed = sign(keys, scope, holder, payload).await?;
        let links = self.links.iter().cloned().chain([signed]).collect();
        Self::link_up(links)
    }

    /// Reads and verifies a chain that must start at one of `roots`.
    ///
    /// # Errors
    /// `Invalid` for a text out of bounds or not in its one form, `Denied` for an issuer that is
    /// not trusted, a signature that does not verify, or a link that is wider than the one before.
    pub fn verify(text: &str, roots: &[DidKey]) -> Result<Self> {
        let bad = |reason: &'static str| Error::invalid("grant", reason);
        if text.len() > Self::TEXT_BYTES_MAX {
            return Err(bad("longer than 64 KiB"));
        }
        let mut parts = text.split('.');
        if parts.next() != Some(Self::PREFIX) {
            return Err(bad("expected the prefix `agentgrant1`"));
        }
        let mut links = Vec::new();
        while let Some(payload) = parts.next() {
            if links.len() == Self::LINKS_MAX {
                return Err(bad("more than 8 links"));
            }
            let signature = parts.next().ok_or_else(|| bad("a link has no signature"))?;
            let payload = Base64UrlUnpadded::decode_vec(payload)
                .map_err(|_digits| bad("a link is not base64url"))?;
            let mut bytes = [0_u8; 64];
            let read = Base64UrlUnpadded::decode(signature, &mut bytes).map(<[u8]>::len);
            if read != Ok(bytes.len()) {
                return Err(bad("a signature is not 64 bytes in base64url"));
            }
            links.push(Link::verify(payload, Signature::from_bytes(bytes))?);
        }
        let chain = Self::link_up(links)?;
        let issuer = chain.root()?.issuer;
        if !roots.contains(&issuer) {
            return Err(Error::Untrusted { issuer });
        }
        Ok(chain)
    }

    /// Checks that each link continues the one before and grants no more.
    fn link_up(links: Vec<Link>) -> Result<Self> {
        let Some(root) = links.first() else {
            return Err(Error::invalid("grant", "it has no link"));
        };
        let broken = |link, reason| Err(Error::Broken { link, reason });
        if root.parent.is_some() {
            return broken(0, "it continues another link");
        }
        if links.len() > Self::LINKS_MAX {
            return Err(Error::TooMany {
                what: "links in a grant",
                max: Self::LINKS_MAX,
            });
        }
        let mut covers = Vec::new();
        for (link, (parent, child)) in (1..).zip(links.iter().zip(links.iter().skip(1))) {
            if child.parent != Some(parent.digest()) {
                return broken(link, "it does not continue the link before");
            }
            if child.issuer != parent.terms.subject {
                return broken(link, "its issuer does not hold the grant");
            }
            let cover = parent
                .attenuation(&child.terms)
                .map_err(|by| Error::Widened { link, by })?;
            covers.push(cover);
        }
        Ok(Self { links, covers })
    }

    /// Decides by the chain alone whether its holder may cause an effect at a moment. Revocation
    /// and used-up limits are the gate's to ask.
    #[must_use]
    pub fn permits(&self, effect: &Effect, at: Timestamp) -> Verdict {
        match self.ways(effect, at) {
            Ok(_ways) => Verdict::Allow,
            Err(refusal) => refusal.verdict(effect),
        }
    }

    /// Returns the ways in which the chain permits an effect; each is the list of the limits it
    /// counts against.
    pub(crate) fn ways(
        &self,
        effect: &Effect,
        at: Timestamp,
    ) -> Result<Vec<Vec<Counter>>, Refusal> {
        for link in &self.links {
            if at < link.terms.not_before {
                return Err(Refusal::NotYetValid);
            }
            if at >= link.terms.expires {
                return Err(Refusal::Expired);
            }
        }
        let last = self.links.last().ok_or(Refusal::NotCovered)?;
        let capabilities = last.terms.capabilities.iter().enumerate();
        let covering: Vec<_> = capabilities.filter(|(_, cap)| cap.covers(effect)).collect();
        if covering.is_empty() {
            return Err(Refusal::NotCovered);
        }
        let ways: Vec<_> = covering
            .into_iter()
            .filter(|(_, capability)| capability.permits(effect, at))
            .filter_map(|(index, _)| self.way(index, effect, at))
            .collect();
        if ways.is_empty() {
            return Err(Refusal::OverLimit);
        }
        Ok(ways)
    }

    /// Follows a capability of the last link up to the root and collects the limits on the way.
    fn way(&self, index: usize, effect: &Effect, at: Timestamp) -> Option<Vec<Counter>> {
        let mut counters = Vec::new();
        let mut index = index;
        for (position, link) in self.links.iter().enumerate().rev() {
            let capability = link.terms.capabilities.get(index)?;
            if !capability.permits(effect, at) {
                return None;
            }
            counters.extend(Counter::of(link, index, capability));
            if let Some(before) = position.checked_sub(1) {
                index = *self.covers.get(before)?.get(index)?;
            }
        }
        Some(counters)
    }

    /// Returns the links, the root first.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Returns the ids of all links, the root first. Revoking any of them revokes the chain.
    pub fn ids(&self) -> impl Iterator<Item = GrantId> + '_ {
        self.links.iter().map(|link| link.id)
    }

    /// Returns who holds the grant; nothing only for the chain without links, which cannot be made.
    #[must_use]
    pub fn subject(&self) -> Option<DidKey> {
        self.links.last().map(|link| link.terms.subject)
    }

    /// Returns when the grant ends: never later than any of its links.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.links
            .last()
            .map_or(Timestamp::EPOCH, |link| link.terms.expires)
    }

    /// Returns the digest of the text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(self.to_string().as_bytes())
    }

    fn root(&self) -> Result<&Link> {
        let empty = || Error::invalid("grant", "it has no link");
        self.links.first().ok_or_else(empty)
    }

    fn last(&self) -> Result<&Link> {
        let empty = || Error::invalid("grant", "it has no link");
        self.links.last().ok_or_else(empty)
    }
}

async fn sign(keys: &dyn KeyStore, scope: &Scope, by: &Key, payload: Vec<u8>) -> Result<Link> {
    let signature = keys
        .sign(scope, by.id, Purpose::GRANT, payload.clone())
        .await?;
    // The same reading as for a stranger's link: what is made is what verifies.
    Link::verify(payload, signature)
}

impl Refusal {
    pub(crate) fn verdict(self, effect: &Effect) -> Verdict {
        let what = || format!("{} on {}", effect.action, effect.target);
        match self {
            Self::NotYetValid => Verdict::deny("grant.not_yet_valid", "the grant has not begun"),
            Self::Expired => Verdict::deny("grant.expired", "the grant has ended"),
            Self::NotCovered => {
                Verdict::deny("grant.not_covered", format!("no grant covers {}", what()))
            }
            Self::OverLimit => {
                let cost = effect.cost_max.as_ref().map(Amount::to_string);
                let cost = cost.as_deref().unwrap_or("nothing");
                Verdict::deny(
                    "grant.over_limit",
                    format!("{} at a cost of {cost} is over the grant's limits", what()),
                )
            }
        }
    }
}

impl fmt::Display for GrantChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        for link in &self.links {
            let payload = Base64UrlUnpadded::encode_string(&link.payload);
            let signature = Base64UrlUnpadded::encode_string(link.signature.as_bytes());
            write!(f, ".{payload}.{signature}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for GrantChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.links).finish()
    }
}
