//! The gate that asks an agent's grants before each effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{
    Clock, Digest, Effect, Env, Gate, IdempotencyKey, Principal, Scope, Timestamp, Verdict,
};
use async_trait::async_trait;
use parking_lot::RwLock;

use crate::did::DidKey;
use crate::error::{Error, Result};
use crate::grant::{GrantChain, GrantId, Refusal};
use crate::grant_store::{Charge, ChargeMode, Counter, GrantStore};

/// Allows an effect if a grant held by the scope's actor permits it, is in force, is not revoked,
/// and has room left; denies everything else.
///
/// Grants are verified once, when they are admitted; a check compares patterns and asks the
/// revocation list in memory. Only an effect that counts against a limit is looked up in the store.
///
/// A check counts nothing, as a gate changes nothing: whoever causes the effect takes the
/// [`CapabilityGate::charge`] first, in the transaction of its intent.
#[derive(Debug)]
pub struct CapabilityGate {
    roots: Vec<DidKey>,
    store: Arc<dyn GrantStore>,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By tenant, who an actor is.
    identities: BTreeMap<String, BTreeMap<Principal, DidKey>>,
    /// By holder and the digest of the text.
    chains: BTreeMap<DidKey, BTreeMap<Digest, Arc<GrantChain>>>,
    n_identities: usize,
}

/// A grant that ends soon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expiring {
    /// When it ends.
    pub at: Timestamp,
    /// Who holds it.
    pub subject: DidKey,
    /// Its last link.
    pub grant: GrantId,
}

impl CapabilityGate {
    /// The most grants one identity may hold: each is looked at in every check.
    pub const CHAINS_PER_SUBJECT_MAX: usize = 64;
    /// The most identities and the most holders, a few times a large fleet.
    pub const SUBJECTS_MAX: usize = 65_536;

    /// Creates a gate that trusts grants issued by `roots` and admits none yet.
    #[must_use]
    pub fn new(roots: Vec<DidKey>, store: Arc<dyn GrantStore>, env: &Env) -> Self {
        Self {
            roots,
            store,
            clock: Arc::clone(&env.clock),
            state: RwLock::default(),
        }
    }

    /// Binds the scope's actor, in the scope's tenant, to an identity. An actor whose name is a
    /// `did:key` needs no binding.
    ///
    /// # Errors
    /// `Exhausted` above [`Self::SUBJECTS_MAX`].
    pub fn bind(&self, scope: &Scope, identity: DidKey) -> Result<()> {
        let mut state = self.state.write();
        if state.n_identities >= Self::SUBJECTS_MAX {
            return Err(Error::TooMany {
                what: "bound identities",
                max: Self::SUBJECTS_MAX,
            });
        }
        let tenant = state
            .identities
            .entry((*scope.tenant).to_owned())
            .or_default();
        if tenant.insert(scope.actor.clone(), identity).is_none() {
            state.n_identities = state.n_identities.saturating_add(1);
        }
        Ok(())
    }

    /// Verifies a grant and lets its subject use it. Admitting it again costs a digest.
    ///
    /// # Errors
    /// As [`GrantChain::verify`]; `Exhausted` above [`Self::CHAINS_PER_SUBJECT_MAX`] grants that
    /// have not ended.
    pub fn admit(&self, text: &str) -> Result<Arc<GrantChain>> {
        let digest = Digest::of_bytes(text.as_bytes());
        let known =
            |chains: &BTreeMap<Digest, Arc<GrantChain>>| chains.get(&digest).map(Arc::clone);
        if text.len() <= GrantChain::TEXT_BYTES_MAX
            && let Some(chain) = self.state.read().chains.values().find_map(known)
        {
            return Ok(chain);
        }
        let chain = Arc::new(GrantChain::verify(text, &self.roots)?);
        let subject = chain
            .subject()
            .ok_or_else(|| Error::invalid("grant", "it has no link"))?;
        let now = self.clock.now();
        let too_many = |what, max| Err(Error::TooMany { what, max });
        let mut state = self.state.write();
        if state.chains.len() >= Self::SUBJECTS_MAX && !state.chains.contains_key(&subject) {
            return too_many("holders of grants", Self::SUBJECTS_MAX);
        }
        let held = state.chains.entry(subject).or_default();
        if held.len() >= Self::CHAINS_PER_SUBJECT_MAX {
            held.retain(|_, chain| chain.expires() > now);
        }
        if held.len() >= Self::CHAINS_PER_SUBJECT_MAX {
            return too_many("grants of one identity", Self::CHAINS_PER_SUBJECT_MAX);
        }
        held.insert(digest, Arc::clone(&chain));
        drop(state);
        Ok(chain)
    }

    /// Forgets the grants that have ended or are revoked and returns how many those were.
    pub fn sweep(&self) -> usize {
        let now = self.clock.now();
        let mut n_removed = 0_usize;
        let mut state = self.state.write();
        state.chains.retain(|_, held| {
            let n_before = held.len();
            held.retain(|_, chain| chain.expires() > now && self.revoked(chain).is_none());
            n_removed = n_removed.saturating_add(n_before.saturating_sub(held.len()));
            !held.is_empty()
        });
        drop(state);
        n_removed
    }

    /// Returns the grants that end before a moment, the earliest first.
    #[must_use]
    pub fn expiring(&self, before: Timestamp) -> Vec<Expiring> {
        let state = self.state.read();
        let chains = state.chains.values().flat_map(BTreeMap::values);
        let mut expiring: Vec<_> = chains
            .filter(|chain| chain.expires() < before)
            .filter_map(|chain| {
                let link = chain.links().last()?;
                Some(Expiring {
                    at: chain.expires(),
                    subject: link.terms.subject,
                    grant: link.id,
                })
            })
            .collect();
        drop(state);
        expiring.sort_by_key(|grant| (grant.at, grant.grant));
        expiring
    }

    /// Returns what an effect counts against, to be taken with [`GrantStore::charge`], or in the
    /// transaction of the effect's intent. `key` counts it once however often it is repeated.
    ///
    /// # Errors
    /// The verdict, as a value, if no grant permits the effect; `Invalid` if the effect has no
    /// digest.
    pub fn charge(
        &self,
        scope: &Scope,
        effect: &Effect,
        key: IdempotencyKey,
    ) -> Result<Result<Charge, Verdict>> {
        let ways = match self.ways(scope, effect) {
            Ok(ways) => ways,
            Err(verdict) => return Ok(Err(verdict)),
        };
        let digest = effect
            .digest()
            .map_err(|e| Error::invalid("effect", e.to_string()))?;
        Ok(Ok(Charge::new(key, digest, effect.cost_max, ways)))
    }

    /// Returns whether an effect counts against a limit of every grant that permits it, so that a
    /// [`CapabilityGate::charge`] must be taken for it.
    ///
    /// # Errors
    /// The verdict if no grant permits the effect.
    pub fn is_counted(&self, scope: &Scope, effect: &Effect) -> Result<bool, Verdict> {
        let ways = self.ways(scope, effect)?;
        Ok(!ways.iter().any(Vec::is_empty))
    }

    /// Collects the ways in which the actor's grants permit an effect, or says why none does.
    fn ways(&self, scope: &Scope, effect: &Effect) -> Result<Vec<Vec<Counter>>, Verdict> {
        let now = self.clock.now();
        let state = self.state.read();
        let bound = state.identities.get(&*scope.tenant);
        let identity = bound
            .and_then(|tenant| tenant.get(&scope.actor).copied())
            .or_else(|| DidKey::try_from(&scope.actor).ok());
        let Some(identity) = identity else {
            return Err(Verdict::deny(
                "grant.unknown_actor",
                format!("{} is bound to no identity", scope.actor),
            ));
        };
        let mut ways = Vec::new();
        let (mut refusal, mut revoked) = (Refusal::NotCovered, None);
        let held = state.chains.get(&identity);
        for chain in held.into_iter().flat_map(BTreeMap::values) {
            match chain.ways(effect, now) {
                Err(Refusal::NotCovered) => {}
                Err(other) => refusal = other,
                Ok(found) => match self.revoked(chain) {
                    Some(grant) => revoked = Some(grant),
                    None => ways.extend(found),
                },
            }
        }
        drop(state);
        match revoked {
            _ if !ways.is_empty() => Ok(ways),
            Some(grant) => Err(Verdict::deny(
                "grant.revoked",
                format!("{grant} is revoked"),
            )),
            None => Err(refusal.verdict(effect)),
        }
    }

    fn revoked(&self, chain: &GrantChain) -> Option<GrantId> {
        chain.ids().find(|id| self.store.is_revoked(*id))
    }
}

#[async_trait]
impl Gate for CapabilityGate {
    async fn check(&self, scope: &Scope, effect: &Effect) -> agent_core::Result<Verdict> {
        let ways = match self.ways(scope, effect) {
            Ok(ways) => ways,
            Err(verdict) => return Ok(verdict),
        };
        if ways.iter().any(Vec::is_empty) {
            return Ok(Verdict::Allow);
        }
        let digest = effect.digest()?;
        // Without the caller's key a repeated check of a charged effect counts as one more.
        let key = match &scope.idempotency_key {
            Some(key) => key.clone(),
            None => IdempotencyKey::new(format!("grant-check:{digest}"))?,
        };
        let charge = Charge::new(key, digest, effect.cost_max, ways);
        match self.store.charge(scope, charge, ChargeMode::Try).await {
            Ok(()) => Ok(Verdict::Allow),
            Err(error @ Error::UsedUp { .. }) => {
                Ok(Verdict::deny("grant.used_up", error.to_string()))
            }
            Err(error @ Error::KeyReused { .. }) => {
                Ok(Verdict::deny("grant.key_reused", error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
