//! Vectors of texts that were embedded before.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use agent_core::{Digest, Embedder, Result, Scope, TokenVectors};
use async_trait::async_trait;
use parking_lot::Mutex;

/// Keeps the vectors of texts in main memory by the digest of the text (BLAKE3), so that a text is
/// embedded once: questions that come again, memories that are re-read, batches with repetitions.
///
/// The texts themselves are not kept. When it is full, what was not asked for since the last time it
/// was full goes.
#[derive(Debug)]
pub struct CachedEmbedder<E> {
    inner: E,
    half: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Arc<[f32]>>,
    old: HashMap<Digest, Arc<[f32]>>,
}

impl Generations {
    /// Returns a vector; one that is asked for stays.
    fn get(&mut self, key: &Digest, half: usize) -> Option<Arc<[f32]>> {
        if let Some(vector) = self.young.get(key) {
            return Some(Arc::clone(vector));
        }
        let vector = self.old.remove(key)?;
        self.put(*key, Arc::clone(&vector), half);
        Some(vector)
    }

    fn put(&mut self, key: Digest, vector: Arc<[f32]>, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, vector);
    }
}

impl<E: Embedder> CachedEmbedder<E> {
    /// The most texts kept unless another number is set: 16 MB of vectors of 256 numbers.
    pub const TEXTS_DEFAULT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

    /// Wraps an embedder and keeps at most [`CachedEmbedder::TEXTS_DEFAULT`] vectors.
    #[must_use]
    pub fn new(inner: E) -> Self {
        Self::with_texts_max(inner, Self::TEXTS_DEFAULT)
    }

    /// Wraps an embedder and keeps at most this many vectors, of four bytes a number.
    #[must_use]
    pub fn with_texts_max(inner: E, texts_max: NonZeroUsize) -> Self {
        Self {
            inner,
            half: texts_max.get().div_ceil(2),
            generations: Mutex::default(),
        }
    }

    /// Returns how many vectors are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let generations = self.generations.lock();
        generations
            .young
            .len()
            .saturating_add(generations.old.len())
    }

    /// Returns whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl<E: Embedder> Embedder for CachedEmbedder<E> {
    fn space(&self) -> &str {
        self.inner.space()
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        self.inner.token_vectors()
    }

    async fn embed(&self, scope: &Scope, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let keys: Vec<Digest> = texts
            .iter()
            .map(|text| Digest::of_bytes(text.as_bytes()))
            .collect();
        let mut found: HashMap<Digest, Arc<[f32]>> = HashMap::new();
        let (mut missing, mut asked, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        {
            let mut generations = self.generations.lock();
            for (key, text) in keys.iter().zip(texts) {
                if !seen.insert(*key) {
                    continue;
                }
                match generations.get(key, self.half) {
                    Some(vector) => {
                        found.insert(*key, vector);
                    }
                    None => {
                        missing.push(*key);
                        asked.push(text.clone());
                    }
                }
            }
        }
        if !asked.is_empty() {
            let vectors = self.inner.embed(scope, &asked).await?;
            let mut generations = self.generations.lock();
            for (key, vector) in missing.into_iter().zip(vectors) {
                let vector: Arc<[f32]> = vector.into();
                generations.put(key, Arc::clone(&vector), self.half);
                found.insert(key, vector);
            }
        }
        // Fewer vectors than texts if the embedder returned fewer; the caller checks that.
        let all = keys.iter().filter_map(|key| found.get(key));
        Ok(all.map(|vector| vector.to_vec()).collect())
    }
}
