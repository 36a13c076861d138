//! Texts are embedded once.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use agent_core::{Embedder, Principal, Result, Scope, TokenVectors};
use agent_memory::layer::CachedEmbedder;
use async_trait::async_trait;
use parking_lot::Mutex;

/// Says how long each text is, and remembers what it was asked.
#[derive(Debug, Default)]
struct Lengths(Mutex<Vec<String>>);

#[async_trait]
impl Embedder for Lengths {
    fn space(&self) -> &str {
        "lengths"
    }

    fn dimensions(&self) -> usize {
        1
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        None
    }

    async fn embed(&self, _scope: &Scope, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        self.0.lock().extend_from_slice(texts);
        let length = |text: &String| vec![f32::from(u16::try_from(text.len()).unwrap())];
        Ok(texts.iter().map(length).collect())
    }
}

async fn embed(cached: &CachedEmbedder<Arc<Lengths>>, texts: &[&str]) -> Vec<f32> {
    let scope = Scope::new(Principal::host());
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let vectors = cached.embed(&scope, &texts).await.unwrap();
    vectors.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_text_is_embedded_once_wherever_it_comes_again() {
    let inner = Arc::new(Lengths::default());
    let cached = CachedEmbedder::new(Arc::clone(&inner));
    assert_eq!(
        embed(&cached, &["a", "bb", "a", ""]).await,
        [1.0, 2.0, 1.0, 0.0]
    );
    assert_eq!(embed(&cached, &["ccc", "bb", "a"]).await, [3.0, 2.0, 1.0]);
    assert_eq!(*inner.0.lock(), ["a", "bb", "", "ccc"]);
    assert_eq!(cached.space(), "lengths");
}

#[tokio::test]
async fn it_keeps_no_more_than_it_may_and_what_is_asked_for_stays() {
    let inner = Arc::new(Lengths::default());
    let most = NonZeroUsize::new(8).unwrap();
    let cached = CachedEmbedder::with_texts_max(Arc::clone(&inner), most);
    for n in 0..100 {
        let text = "x".repeat(n);
        embed(&cached, &[&text, "kept for long"]).await;
        assert!(cached.len() <= 8);
    }
    let asked = inner.0.lock();
    assert_eq!(
        asked.iter().filter(|text| *text == "kept for long").count(),
        1
    );
    assert_eq!(asked.len(), 101);
}
