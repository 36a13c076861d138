//! Keys and grants that end with the process. Keys are sealed as on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{Clock, Digest, Env, IdempotencyKey, Scope, Timestamp};
use async_trait::async_trait;
use parking_lot::RwLock;

use crate::grant_store::{self, Charge, ChargeMode, Counter, GrantStore, Revocation, Used};
use crate::key_store::{self, GENERATIONS_MAX, Key, KeyId, KeyName, KeyStore};
use crate::vault::{SealedKey, Vault};
use crate::{Error, GrantId, Purpose, Result, Signature};

/// Private keys in memory, sealed under a random key.
#[derive(Debug)]
pub struct InMemoryKeyStore {
    vault: Vault,
    clock: Arc<dyn Clock>,
    /// By tenant and name, the newest key last.
    keys: RwLock<BTreeMap<String, BTreeMap<KeyName, Vec<SealedKey>>>>,
}

impl InMemoryKeyStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(env: &Env) -> Self {
        Self {
            vault: Vault::ephemeral(),
            clock: Arc::clone(&env.clock),
            keys: RwLock::default(),
        }
    }
}

#[async_trait]
impl KeyStore for InMemoryKeyStore {
    async fn generate(&self, scope: &Scope, names: Vec<KeyName>) -> Result<Vec<Key>> {
        key_store::check_names(&names)?;
        let now = self.clock.now();
        let mut keys = self.keys.write();
        let tenant = keys.entry((*scope.tenant).to_owned()).or_default();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let held = tenant.entry(name.clone()).or_default();
            if held.is_empty() {
                held.push(self.vault.generate(&scope.tenant, &name, 0, now)?);
            }
            found.extend(held.last().map(|sealed| sealed.key.clone()));
        }
        drop(keys);
        Ok(found)
    }

    async fn list(&self, scope: &Scope, after: Option<KeyName>, limit: usize) -> Result<Vec<Key>> {
        let keys = self.keys.read();
        let tenant = keys.get(&*scope.tenant);
        let names = tenant.into_iter().flatten();
        Ok(names
            .filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after))
            .filter_map(|(_, held)| held.last().map(|sealed| sealed.key.clone()))
            .take(limit.min(key_store::PAGE_MAX))
            .collect())
    }

    async fn history(&self, scope: &Scope, name: KeyName) -> Result<Vec<Key>> {
        let keys = self.keys.read();
        let held = keys
            .get(&*scope.tenant)
            .and_then(|tenant| tenant.get(&name));
        let held = held.into_iter().flatten().rev();
        Ok(held.map(|sealed| sealed.key.clone()).collect())
    }

    async fn sign(
        &self,
        scope: &Scope,
        key: KeyId,
        purpose: Purpose,
        bytes: Vec<u8>,
    ) -> Result<Signature> {
        key_store::check_message(&bytes)?;
        let sealed = {
            let keys = self.keys.read();
            let held = keys
                .get(&*scope.tenant)
                .into_iter()
                .flat_map(BTreeMap::values);
            held.flatten().find(|sealed| sealed.key.id == key).cloned()
        };
        let sealed = sealed.ok_or(Error::UnknownKey { key })?;
        self.vault.sign(&sealed, &purpose, &bytes)
    }

    async fn rotate(&self, scope: &Scope, name: KeyName, expect: KeyId) -> Result<Key> {
        let now = self.clock.now();
        let mut keys = self.keys.write();
        let tenant = keys.get_mut(&*scope.tenant);
        let held = tenant.and_then(|tenant| tenant.get_mut(&name));
        let Some((held, current)) = held.and_then(|held| {
            let current = held.last().map(|sealed| sealed.key.clone())?;
            Some((held, current))
        }) else {
            return Err(Error::UnknownName { name });
        };
        let generation = next_generation(&current, expect)?;
        let next = self.vault.generate(&scope.tenant, &name, generation, now)?;
        if let Some(old) = held.last_mut() {
            old.key.retired = Some(now);
            old.sealed.clear();
        }
        let key = next.key.clone();
        held.push(next);
        drop(keys);
        Ok(key)
    }

    async fn remove(&self, scope: &Scope, name: KeyName) -> Result<bool> {
        let mut keys = self.keys.write();
        let tenant = keys.get_mut(&*scope.tenant);
        Ok(tenant.is_some_and(|tenant| tenant.remove(&name).is_some()))
    }
}

/// Returns the generation behind the current key, if that is the expected one.
fn next_generation(current: &Key, expected: KeyId) -> Result<u32> {
    if current.id != expected {
        return Err(Error::NotCurrent {
            expected,
            current: current.id,
        });
    }
    let next = current.generation.saturating_add(1);
    if next >= GENERATIONS_MAX {
        return Err(Error::TooMany {
            what: "keys of one name",
            max: usize::try_from(GENERATIONS_MAX).unwrap_or(usize::MAX),
        });
    }
    Ok(next)
}

/// Revocations and used limits in memory.
#[derive(Debug)]
pub struct InMemoryGrantStore {
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    revoked: BTreeMap<GrantId, Revocation>,
    used: BTreeMap<(GrantId, u32), (Used, Timestamp)>,
    /// By tenant and key, the effect and when the last of its grants ends.
    charged: BTreeMap<(String, IdempotencyKey), (Digest, Timestamp)>,
}

impl InMemoryGrantStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(env: &Env) -> Self {
        Self {
            clock: Arc::clone(&env.clock),
            state: RwLock::default(),
        }
    }
}

impl State {
    fn with_way(&self, way: &[Counter], charge: &Charge) -> Result<Vec<Used>> {
        let used = |counter: &Counter| {
            let key = (counter.grant, counter.capability);
            self.used
                .get(&key)
                .map_or_else(Used::default, |(used, _)| *used)
        };
        way.iter()
            .map(|counter| used(counter).with(counter, charge.cost))
            .collect()
    }
}

#[async_trait]
impl GrantStore for InMemoryGrantStore {
    async fn revoke(
        &self,
        scope: &Scope,
        grants: Vec<(GrantId, Timestamp)>,
        reason: String,
    ) -> Result<()> {
        grant_store::check_revoke(&grants, &reason)?;
        let now = self.clock.now();
        let mut state = self.state.write();
        for (grant, expires) in grants {
            let actor = scope.actor.clone();
            let revocation = || Revocation::new(grant, expires, now, actor, reason.clone());
            state.revoked.entry(grant).or_insert_with(revocation);
        }
        drop(state);
        Ok(())
    }

    fn is_revoked(&self, grant: GrantId) -> bool {
        self.state.read().revoked.contains_key(&grant)
    }

    async fn revocations(&self, after: Option<GrantId>, limit: usize) -> Result<Vec<Revocation>> {
        let state = self.state.read();
        let behind = state.revoked.values();
        Ok(behind
            .filter(|revocation| after.is_none_or(|after| revocation.grant > after))
            .take(limit.min(grant_store::PAGE_MAX))
            .cloned()
            .collect())
    }

    async fn charge(&self, scope: &Scope, charge: Charge, mode: ChargeMode) -> Result<()> {
        if charge.is_free() {
            return Ok(());
        }
        let charged = ((*scope.tenant).to_owned(), charge.key.clone());
        let mut state = self.state.write();
        match state.charged.get(&charged) {
            Some((effect, _)) if *effect == charge.effect => return Ok(()),
            Some(_other) => return Err(Error::KeyReused { key: charge.key }),
            None => {}
        }
        let mut refused = Error::invalid("charge", "it has no way");
        for way in &charge.ways {
            match state.with_way(way, &charge) {
                Ok(_) if mode == ChargeMode::Try => return Ok(()),
                Ok(sums) => {
                    for (counter, used) in way.iter().zip(sums) {
                        let key = (counter.grant, counter.capability);
                        state.used.insert(key, (used, counter.expires));
                    }
                    let expires = way.iter().map(|counter| counter.expires).max();
                    let expires = expires.unwrap_or_default();
                    state.charged.insert(charged, (charge.effect, expires));
                    return Ok(());
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn prune(&self, before: Timestamp) -> Result<u64> {
        let mut state = self.state.write();
        let n_before = state.len();
        state
            .revoked
            .retain(|_, revocation| revocation.expires >= before);
        state.used.retain(|_, (_, expires)| *expires >= before);
        state.charged.retain(|_, (_, expires)| *expires >= before);
        let n_removed = n_before.saturating_sub(state.len());
        drop(state);
        Ok(u64::try_from(n_removed).unwrap_or(u64::MAX))
    }
}

impl State {
    fn len(&self) -> usize {
        let n = self.revoked.len().saturating_add(self.used.len());
        n.saturating_add(self.charged.len())
    }
}
