//! Embedding again what another embedder embedded, in the background.

use agent_core::Scope;

use super::write::{Done, Pending, pending, set};
use super::{Mode, Postgres};
use crate::backend::Embedded;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::portable::Portable;
use crate::prepare::embed;

impl Postgres {
    /// The most memories of one call to [`Postgres::embed_again`].
    pub const EMBED_MAX: usize = 1_000;

    /// Embeds up to `n_max` memories of the scope's tenant that another embedder embedded, and
    /// returns how many of the tenant are left. A host calls it for each tenant until none is left,
    /// as fast as suits it. Searches and writes go on, in every process; each memory is found by
    /// the vector it has, if its embedder is the present one or
    /// [`Config::with_former_embedder`](super::Config::with_former_embedder).
    ///
    /// What was done is in the database: after a crash the next call goes on where the last one
    /// that returned had come to. An index of vectors that [`Postgres::optimize`] built for a
    /// namespace is not used any more once memories there are embedded again; call it at the end.
    /// A call takes four round trips for each namespace of the tenant. `n_max` of 0 only counts.
    ///
    /// # Errors
    /// `Invalid` for more than [`Postgres::EMBED_MAX`]; the embedder's, with nothing changed; the
    /// database's.
    ///
    /// # Cancel safety
    /// Atomic: all of the call's memories have their new vectors or none.
    pub async fn embed_again(&self, scope: &Scope, n_max: usize) -> Result<Embedded> {
        let tenant = self.check(scope)?;
        if n_max > Self::EMBED_MAX {
            let reason = "at most 1,000 in a call";
            return Err(Error::invalid("memories to embed", reason));
        }
        let space = self.indexes.space;
        let namespaces = self.namespaces(scope).await?;
        let mut found: Vec<(Namespace, Vec<Pending>)> = Vec::new();
        let (mut n_found, mut n_left) = (0, 0);
        for at in namespaces {
            let wanted = n_max - n_found;
            let part: Result<(Vec<Pending>, usize)> =
                read!(self, scope, &tenant, |tx| pending(&tx, &at, space, wanted));
            let (part, n) = part?;
            n_left += n;
            n_found += part.len();
            if !part.is_empty() {
                found.push((at, part));
            }
        }
        if found.is_empty() {
            return Ok(Embedded { n_done: 0, n_left });
        }
        let texts = found.iter().flat_map(|(_, part)| part);
        let texts: Vec<String> = texts.map(|(_, text)| text.clone()).collect();
        let embedder = self.indexes.embedder.as_ref();
        let mut vectors = embed(&self.env, embedder, scope, &texts).await?.into_iter();
        let done = found.into_iter().map(|(at, part)| {
            let seqs = part.into_iter().map(|(seq, _)| seq);
            (at, seqs.zip(vectors.by_ref()).collect())
        });
        let done: Vec<(Namespace, Vec<Done>)> = done.collect();
        let n_done = write!(self, scope, &tenant, |tx| async {
            let mut n_done = 0;
            // Always in the same order, so that two calls at once wait for one another and no more.
            for (at, part) in &done {
                n_done += set(&tx, scope.actor.as_str(), at, space, part).await?;
            }
            Ok(n_done)
        });
        let n_left = n_left.saturating_sub(n_done);
        Ok(Embedded { n_done, n_left })
    }
}
