//! The bundled embedder against vectors computed by the Python reference.

#![expect(clippy::unwrap_used, reason = "tests")]

use agent_core::{Embedder, Principal, Scope};
use agent_memory::StaticEmbedder;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    text: String,
    norm: f32,
    head: Vec<f32>,
    ramp: f32,
}

fn references() -> Vec<Reference> {
    serde_json::from_str(include_str!("../fixtures/static_embedder.json")).unwrap()
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[test]
fn vectors_equal_the_reference() {
    let embedder = StaticEmbedder::new().unwrap();
    let references = references();
    assert!(references.len() >= 60);
    for reference in references {
        let vector = embedder.embed_one(&reference.text);
        for (x, expected) in vector.iter().zip(&reference.head) {
            assert!(
                (x - expected).abs() < 1e-4,
                "{:?}: {x} {expected}",
                reference.text
            );
        }
        let ramp: f32 = (0_u8..=255)
            .zip(&vector)
            .map(|(n, x)| f32::from(n) / 256.0 * x)
            .sum();
        assert!((ramp - reference.ramp).abs() < 1e-3, "{:?}", reference.text);
        let expected = if reference.norm > 0.0 { 1.0 } else { 0.0 };
        assert!(
            (norm(&vector) - expected).abs() < 1e-4,
            "{:?}",
            reference.text
        );
    }
}

#[tokio::test]
async fn any_text_has_a_finite_vector_of_bounded_cost() {
    let embedder = StaticEmbedder::new().unwrap();
    let scope = Scope::new(Principal::host());
    let texts = vec![
        String::new(),
        "\u{200b}\u{feff}".to_owned(),
        "a".repeat(1 << 20),
        "word ".repeat(1 << 18),
        "a\u{301}".repeat(1 << 18),
        "\u{fdfa}".repeat(1 << 16),
        "\u{10ffff}\u{0}\u{ffff}".to_owned(),
    ];
    let vectors = embedder.embed(&scope, &texts).await.unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (text, vector) in texts.iter().zip(&vectors) {
        assert_eq!(vector.len(), embedder.dimensions());
        assert!(vector.iter().all(|x| x.is_finite()), "{text:.20}");
        assert!(norm(vector) < 1.0 + 1e-4);
    }
    assert!(norm(&vectors[0]).abs() < 1e-9);
    assert!((norm(&vectors[3]) - 1.0).abs() < 1e-4);
}

#[test]
fn likeness_follows_meaning() {
    let embedder = StaticEmbedder::new().unwrap();
    let like = |a: &str, b: &str| -> f32 {
        let (a, b) = (embedder.embed_one(a), embedder.embed_one(b));
        a.iter().zip(&b).map(|(x, y)| x * y).sum()
    };
    let near = like("The dog chased a cat", "puppies and kittens playing");
    let far = like("The dog chased a cat", "quarterly tax declaration");
    assert!(near > far + 0.1, "{near} {far}");
}

#[test]
fn words_of_like_meaning_are_alike() {
    let embedder = StaticEmbedder::new().unwrap();
    let tokens = embedder.token_vectors().unwrap();
    let one = |word: &str| *tokens.tokens(word, 1).first().unwrap();
    let likeness = |a, b| tokens.likeness(one(a), one(b));
    for [word, like, unlike] in [
        ["job", "work", "banana"],
        ["doctor", "nurse", "guitar"],
        ["car", "vehicle", "prayer"],
    ] {
        let (near, far) = (likeness(word, like), likeness(word, unlike));
        assert!(near > far + 0.2, "{word}: {like} {near}, {unlike} {far}");
        assert!((likeness(word, word) - 1.0).abs() < 1e-3);
    }
    assert!(tokens.weight(one("banana")) > tokens.weight(one("the")));
    let beyond = u32::try_from(tokens.n_tokens()).unwrap();
    assert!(tokens.likeness(beyond, beyond) <= 0.0 && tokens.weight(beyond) <= 0.0);
    assert_eq!(tokens.tokens("work and work", 8).len(), 2, "distinct");
}
