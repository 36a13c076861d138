//! The transformer in the process: a small made-up one always, and all-MiniLM-L6-v2 itself where
//! `MINILM_DIR` names its folder.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent_core::{Classify, Embedder, Env, ErrorKind, Principal, Scope};
use agent_memory::layer::CachedEmbedder;
use agent_memory::{CandleEmbedder, Error};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use tempfile::TempDir;

const HIDDEN: usize = 8;
const INTERMEDIATE: usize = 12;
const CONFIG: &str = r#"{
    "model_type": "bert", "hidden_act": "gelu", "vocab_size": 9, "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 16, "type_vocab_size": 2, "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0
}"#;
const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\nblue\nbird\n##s\n.\n";

type Weights = HashMap<String, Tensor>;

/// Numbers that differ from place to place, the same in every run.
fn made_up(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 65_536.0 - 0.5
    };
    let numbers: Vec<f32> = (0..n).map(|_| next()).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

fn weights() -> Weights {
    let layer = "encoder.layer.0.";
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    for (name, n) in [("word", 9), ("position", 16), ("token_type", 2)] {
        shapes.push((
            format!("embeddings.{name}_embeddings.weight"),
            vec![n, HIDDEN],
        ));
    }
    for (name, out, of) in [
        ("attention.self.query", HIDDEN, HIDDEN),
        ("attention.self.key", HIDDEN, HIDDEN),
        ("attention.self.value", HIDDEN, HIDDEN),
        ("attention.output.dense", HIDDEN, HIDDEN),
        ("intermediate.dense", INTERMEDIATE, HIDDEN),
        ("output.dense", HIDDEN, INTERMEDIATE),
    ] {
        shapes.push((format!("{layer}{name}.weight"), vec![out, of]));
        shapes.push((format!("{layer}{name}.bias"), vec![out]));
    }
    let norms =
        ["attention.output.LayerNorm", "output.LayerNorm"].map(|name| format!("{layer}{name}"));
    for name in norms.into_iter().chain(["embeddings.LayerNorm".to_owned()]) {
        shapes.push((format!("{name}.weight"), vec![HIDDEN]));
        shapes.push((format!("{name}.bias"), vec![HIDDEN]));
    }
    let tensors = shapes
        .into_iter()
        .map(|(name, shape)| (name, made_up(&shape)));
    tensors.collect()
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), CONFIG).unwrap();
    fs::write(dir.path().join("vocab.txt"), VOCABULARY).unwrap();
    save(dir.path(), &weights());
    dir
}

fn save(dir: &Path, weights: &Weights) {
    candle_core::safetensors::save(weights, dir.join("model.safetensors")).unwrap();
}

fn open(dir: &Path) -> Result<CandleEmbedder, Error> {
    CandleEmbedder::open(dir, &Env::system())
}

async fn embed(embedder: &impl Embedder, texts: &[&str]) -> Vec<Vec<f32>> {
    let scope = Scope::new(Principal::host());
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    embedder.embed(&scope, &texts).await.unwrap()
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[tokio::test]
async fn a_text_has_its_vector_whatever_stands_beside_it() {
    let dir = folder();
    let embedder = open(dir.path()).unwrap();
    assert_eq!(embedder.dimensions(), HIDDEN);
    let texts = [
        "red birds.",
        "blue",
        "",
        "\u{200b}",
        "Red BIRDS .",
        "unheard",
        "blue bird",
        "red",
    ];
    let together = embed(&embedder, &texts).await;
    for (text, vector) in texts.iter().zip(&together) {
        let alone = embed(&embedder, &[text]).await.remove(0);
        let apart = alone.iter().zip(vector).map(|(x, y)| (x - y).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-5, "{text:?}");
        let is_empty = text.trim_matches('\u{200b}').is_empty();
        let expected = if is_empty { 0.0 } else { 1.0 };
        assert!(
            (product(vector, vector) - expected).abs() < 1e-4,
            "{text:?}"
        );
    }
    assert_eq!(together[0], together[4], "neither case nor space counts");
    assert!(product(&together[1], &together[7]) < 0.999, "words count");
    let many: Vec<&str> = texts.iter().copied().cycle().take(200).collect();
    let of_many = embed(&embedder, &many).await;
    assert_eq!(of_many.len(), 200);
    assert!(
        product(&of_many[192], &together[0]) > 0.9999,
        "{:?}",
        many[192]
    );
}

#[tokio::test]
async fn of_a_long_text_the_first_pieces_count() {
    let dir = folder();
    fs::write(
        dir.path().join("sentence_bert_config.json"),
        r#"{"max_seq_length": 6}"#,
    )
    .unwrap();
    let embedder = open(dir.path()).unwrap();
    assert_eq!(embedder.pieces_max(), 6);
    let long = "red blue bird red ".repeat(1 << 14);
    let vectors = embed(&embedder, &["red blue bird red", &long]).await;
    assert_eq!(vectors[0], vectors[1]);
}

#[tokio::test]
async fn the_space_follows_the_files_and_not_the_folder() {
    let (one, other) = (folder(), folder());
    let space = |dir: &Path| open(dir).unwrap().space().to_owned();
    assert_eq!(space(one.path()), space(other.path()));
    let mut changed = weights();
    changed.insert(
        "embeddings.LayerNorm.bias".to_owned(),
        made_up(&[HIDDEN]).affine(2.0, 0.0).unwrap(),
    );
    save(other.path(), &changed);
    assert_ne!(space(one.path()), space(other.path()));
    let cached = CachedEmbedder::new(open(one.path()).unwrap());
    let first = embed(&cached, &["red bird", "red bird"]).await;
    assert_eq!(cached.len(), 1);
    assert_eq!(first, embed(&cached, &["red bird", "red bird"]).await);
    assert_eq!(cached.space(), space(one.path()));
}

#[tokio::test]
async fn a_canceled_scope_ends_the_call() {
    let dir = folder();
    let embedder = open(dir.path()).unwrap();
    let scope = Scope::new(Principal::host());
    scope.cancellation.cancel();
    let stopped = embedder.embed(&scope, &["red".to_owned()]).await;
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Canceled);
}

/// Asserts which file an altered folder is refused for, and how.
fn refused(file: &str, kind: ErrorKind, alter: impl FnOnce(&Path)) {
    let dir = folder();
    alter(dir.path());
    match open(dir.path()).unwrap_err() {
        Error::ModelFile {
            file: found,
            kind: how,
            ..
        } => assert_eq!((found, how), (file, kind)),
        other => panic!("{other:?}"),
    }
}

fn write(name: &'static str, text: impl AsRef<[u8]>) -> impl FnOnce(&Path) {
    move |dir| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

const WEIGHTS: &str = "model.safetensors";

#[test]
fn absent_and_unreadable_files_are_refused_by_name() {
    for file in ["config.json", "vocab.txt", WEIGHTS] {
        refused(file, ErrorKind::NotFound, |dir| {
            fs::remove_file(dir.join(file)).unwrap();
        });
        refused(file, ErrorKind::Invalid, |dir| {
            fs::remove_file(dir.join(file)).unwrap();
            fs::create_dir(dir.join(file)).unwrap();
        });
    }
}

#[test]
fn configurations_of_another_form_or_beyond_a_limit_are_refused() {
    let config = |from: &str, to: &str| {
        assert!(CONFIG.contains(from));
        write("config.json", CONFIG.replace(from, to))
    };
    for (from, to) in [
        ("\"bert\"", "\"roberta\""),
        ("\"hidden_size\": 8", "\"hidden_size\": 1000000000"),
        (
            "\"num_hidden_layers\": 1",
            "\"num_hidden_layers\": 1000000000",
        ),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": 0"),
        (
            "\"max_position_embeddings\": 16",
            "\"max_position_embeddings\": 18446744073709551615",
        ),
    ] {
        refused("config.json", ErrorKind::Invalid, config(from, to));
    }
    refused("config.json", ErrorKind::Corrupt, write("config.json", "{"));
    refused(
        "config.json",
        ErrorKind::Corrupt,
        config("\"gelu\"", "\"unheard of\""),
    );
    refused(
        "config.json",
        ErrorKind::Invalid,
        write("config.json", " ".repeat(1 << 20)),
    );
    refused(
        "sentence_bert_config.json",
        ErrorKind::Invalid,
        write("sentence_bert_config.json", r#"{"max_seq_length": 2}"#),
    );
    refused(
        "tokenizer_config.json",
        ErrorKind::Invalid,
        write("tokenizer_config.json", r#"{"do_lower_case": false}"#),
    );
    let cls = r#"{"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true}"#;
    refused(
        "1_Pooling/config.json",
        ErrorKind::Invalid,
        write("1_Pooling/config.json", cls),
    );
}

#[test]
fn weights_and_vocabularies_that_do_not_fit_are_refused() {
    refused(
        "vocab.txt",
        ErrorKind::Corrupt,
        write("vocab.txt", VOCABULARY.replace("bird\n", "")),
    );
    refused(
        "vocab.txt",
        ErrorKind::Corrupt,
        write("vocab.txt", VOCABULARY.replace("[SEP]", "end")),
    );
    refused(
        "vocab.txt",
        ErrorKind::Corrupt,
        write("vocab.txt", b"\xff\xfe".repeat(8)),
    );

    let name = "encoder.layer.0.output.dense.weight";
    let with = |tensor: Option<Tensor>| {
        move |dir: &Path| {
            let mut weights = weights();
            weights.remove(name);
            weights.extend(tensor.map(|tensor| (name.to_owned(), tensor)));
            save(dir, &weights);
        }
    };
    let nan = (made_up(&[HIDDEN, INTERMEDIATE]) * f64::NAN).unwrap();
    for tensor in [None, Some(made_up(&[INTERMEDIATE, HIDDEN])), Some(nan)] {
        refused(WEIGHTS, ErrorKind::Corrupt, with(tensor));
    }
    refused(WEIGHTS, ErrorKind::Corrupt, write(WEIGHTS, ""));
    refused(WEIGHTS, ErrorKind::Corrupt, write(WEIGHTS, [0xff; 64]));
    refused(WEIGHTS, ErrorKind::Corrupt, |dir| {
        let whole = fs::read(dir.join(WEIGHTS)).unwrap();
        let (half, _rest) = whole.split_at(whole.len() / 2);
        fs::write(dir.join(WEIGHTS), half).unwrap();
    });
}

#[derive(Deserialize)]
struct Reference {
    text: String,
    head: Vec<f32>,
    ramp: f32,
}

fn minilm() -> Option<PathBuf> {
    let dir = std::env::var_os("MINILM_DIR").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("SKIPPED all-MiniLM-L6-v2: `MINILM_DIR` names no folder");
    }
    dir
}

/// The figures of `fixtures/minilm.json` are those of `peers/minilm.py`, another implementation
/// with another tokenizer.
#[tokio::test]
async fn vectors_of_minilm_equal_the_reference() {
    let Some(dir) = minilm() else { return };
    let embedder = open(&dir).unwrap();
    assert_eq!((embedder.dimensions(), embedder.pieces_max()), (384, 256));
    let references: Vec<Reference> =
        serde_json::from_str(include_str!("fixtures/minilm.json")).unwrap();
    assert!(references.len() >= 60);
    let texts: Vec<&str> = references.iter().map(|r| r.text.as_str()).collect();
    let vectors = embed(&embedder, &texts).await;
    for (reference, vector) in references.iter().zip(&vectors) {
        if vector.iter().all(|x| x.abs() < 1e-9) {
            assert!(
                !reference.text.contains(char::is_alphanumeric),
                "{:?}",
                reference.text
            );
            continue;
        }
        for (x, expected) in vector.iter().zip(&reference.head) {
            assert!(
                (x - expected).abs() < 1e-4,
                "{:?}: {x} {expected}",
                reference.text
            );
        }
        let ramp: f32 = (0_u16..)
            .zip(vector)
            .map(|(n, x)| f32::from(n) / 384.0 * x)
            .sum();
        assert!((ramp - reference.ramp).abs() < 1e-3, "{:?}", reference.text);
    }
}

/// The figures are those that the README of sentence-transformers prints for this model.
#[tokio::test]
async fn minilm_finds_the_likeness_that_its_authors_print() {
    let Some(dir) = minilm() else { return };
    let texts = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ];
    let vectors = embed(&open(&dir).unwrap(), &texts).await;
    for (a, b, expected) in [(0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411)] {
        let found = product(&vectors[a], &vectors[b]);
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }
}
