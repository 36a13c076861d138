//! What is done to drafts before the transaction: checking, naming, embedding.

use std::sync::Arc;

use agent_core::{Digest, Embedder, Env, Principal, Scope, Timestamp};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::index::Quantized;
use crate::memory::{Added, Draft, MemoryId, Verb};
use crate::metadata::{self, Metadata};
use crate::namespace::{Namespace, tenant};
use crate::relation::check_name;
use crate::terms::is_visible;
use crate::validity;

/// Drafts that were checked and embedded, ready to be added within a transaction.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) tenant: Arc<str>,
    pub(crate) at: Namespace,
    pub(crate) actor: Principal,
    #[cfg(feature = "sqlite")]
    pub(crate) space: String,
    pub(crate) drafts: Vec<PreparedDraft>,
}

#[derive(Debug)]
pub(crate) struct PreparedDraft {
    pub(crate) draft: Draft,
    pub(crate) id: MemoryId,
    /// Digest of the idempotency key; the key itself is not kept.
    pub(crate) key: Option<Digest>,
    /// Digest of what the key stands for.
    pub(crate) content: Digest,
    pub(crate) vector: Option<Quantized>,
}

/// The times of a memory once it is added.
pub(crate) struct Times {
    pub(crate) occurred_at: Timestamp,
    pub(crate) valid_from: Timestamp,
}

impl PreparedDraft {
    pub(crate) fn times(&self, now: Timestamp) -> Times {
        let occurred_at = self.draft.occurred_at.unwrap_or(now);
        Times {
            occurred_at,
            valid_from: self.draft.valid_from.unwrap_or(occurred_at),
        }
    }

    /// How the record it supersedes ends.
    pub(crate) fn ending(&self, now: Timestamp) -> validity::Asked<'_> {
        validity::Asked {
            verb: Verb::Superseded,
            valid_to: self.times(now).valid_from,
            successor_to: self.draft.valid_to,
            labels: self.draft.supersedes_labeled.as_ref(),
        }
    }

    /// Answers a draft whose key is known: `content` is what the key stands for, none if that was
    /// erased.
    pub(crate) fn repeated(&self, id: MemoryId, content: Option<&[u8; 32]>) -> Result<Added> {
        match content {
            Some(content) if content == self.content.as_bytes() => Ok(Added { id, is_new: false }),
            Some(_) => Err(Error::KeyReused { id }),
            None => Err(Error::Erased { id }),
        }
    }
}

/// Checks the drafts, gives them ids and embeds them. Nothing is written.
///
/// # Errors
/// As [`crate::MemoryStore::add`], but for what only the transaction can know.
///
/// # Cancel safety
/// Cancel safe.
pub async fn prepare(
    env: &Env,
    embedder: &dyn Embedder,
    scope: &Scope,
    at: Namespace,
    drafts: Vec<Draft>,
) -> Result<Prepared> {
    scope.check(env.clock.as_ref()).map_err(Error::stopped)?;
    let tenant = tenant(scope)?;
    if drafts.len() > Draft::BATCH_MAX {
        return Err(Error::invalid("drafts", "at most 1,000 in a call"));
    }
    drafts.iter().try_for_each(Draft::check)?;
    let texts: Vec<String> = drafts.iter().map(|draft| draft.text.clone()).collect();
    let vectors = embed(env, embedder, scope, &texts).await?;
    let drafts = drafts
        .into_iter()
        .zip(vectors)
        .enumerate()
        .map(|(n, (draft, vector))| {
            Ok(PreparedDraft {
                id: MemoryId::generate(env),
                key: key_digest(scope, &tenant, &at, &draft, n)?,
                content: content_digest(&draft)?,
                vector,
                draft,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Prepared {
        tenant,
        at,
        actor: scope.actor.clone(),
        #[cfg(feature = "sqlite")]
        space: embedder.space().to_owned(),
        drafts,
    })
}

/// Embeds texts and checks what comes back; a text without meaning has no vector.
pub(crate) async fn embed(
    env: &Env,
    embedder: &dyn Embedder,
    scope: &Scope,
    texts: &[String],
) -> Result<Vec<Option<Quantized>>> {
    let vectors = scope
        .guard(env.clock.as_ref(), embedder.embed(scope, texts))
        .await
        .map_err(Error::stopped)?
        .map_err(|source| Error::Embed { source })?;
    let bad = |found| Error::BadVector {
        space: embedder.space().to_owned(),
        found,
    };
    if vectors.len() != texts.len() {
        return Err(bad("another number of vectors than texts"));
    }
    vectors
        .iter()
        .map(|vector| {
            if vector.len() != embedder.dimensions() {
                return Err(bad("a vector of another length"));
            }
            if !vector.iter().all(|x| x.is_finite()) {
                return Err(bad("a vector that is not finite"));
            }
            Ok(Quantized::new(vector))
        })
        .collect()
}

pub(crate) fn check_reason(reason: &str) -> Result<()> {
    if reason.len() <= Draft::REASON_BYTES_MAX {
        Ok(())
    } else {
        Err(Error::invalid("reason", "at most 1,024 bytes"))
    }
}

impl Draft {
    /// Checks it against the limits.
    pub(crate) fn check(&self) -> Result<()> {
        if self.text.len() > Self::TEXT_BYTES_MAX {
            return Err(Error::invalid("text", "at most 65,536 bytes"));
        }
        if !self.text.chars().any(is_visible) {
            return Err(Error::invalid("text", "it has no visible character"));
        }
        let names = [self.thread.as_deref(), self.channel.as_deref()];
        check_parts(&self.metadata, names, &self.sources)?;
        if self.supersedes.is_some() && !self.kind.is_record() {
            return Err(Error::invalid("draft", "an event supersedes nothing"));
        }
        if self
            .valid_to
            .is_some_and(|to| self.valid_from.is_some_and(|from| to <= from))
        {
            return Err(Error::invalid("validity", "it ends after it begins"));
        }
        check_reason(self.reason.as_deref().unwrap_or_default())
    }
}

/// Checks labels, the names of thread and channel, and how many sources there are.
pub(crate) fn check_parts(
    labels: &Metadata,
    names: [Option<&str>; 2],
    sources: &[MemoryId],
) -> Result<()> {
    if sources.len() > Draft::SOURCES_MAX {
        return Err(Error::invalid("sources", "at most 64"));
    }
    for name in names.into_iter().flatten() {
        check_name("thread or channel", name)?;
    }
    metadata::check(labels)
}

fn key_digest(
    scope: &Scope,
    tenant: &str,
    at: &Namespace,
    draft: &Draft,
    n: usize,
) -> Result<Option<Digest>> {
    let key = match (&draft.key, &scope.idempotency_key) {
        (Some(key), _) => ("draft", key.as_str(), 0),
        (None, Some(key)) => ("scope", key.as_str(), n),
        (None, None) => return Ok(None),
    };
    digest(&(tenant, at.as_str(), key)).map(Some)
}

fn content_digest(draft: &Draft) -> Result<Digest> {
    let times = [draft.occurred_at, draft.valid_from, draft.valid_to];
    digest(&(
        draft.kind.as_str(),
        &draft.text,
        &draft.metadata,
        &draft.thread,
        times,
        (&draft.sources, draft.supersedes, &draft.channel),
    ))
}

/// Digests a value's JSON; maps are ordered, so equal values have equal digests.
fn digest<T: Serialize>(value: &T) -> Result<Digest> {
    serde_json::to_vec(value)
        .map(|json| Digest::of_bytes(&json))
        .map_err(|e| Error::invalid("draft", e.to_string()))
}
