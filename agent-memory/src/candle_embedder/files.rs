//! The files of a model's folder, read as a stranger's: sizes bounded before anything is taken, a
//! model that asks for what is not done here refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use agent_core::{BoxError, ErrorKind};
use candle_transformers::models::bert::Config;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::CandleEmbedder;
use crate::error::{Error, Result};
use crate::wordpiece::Vocabulary;

pub(super) const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const VOCABULARY: &str = "vocab.txt";
const SENTENCE: &str = "sentence_bert_config.json";
const TOKENIZER: &str = "tokenizer_config.json";
const POOLING: &str = "1_Pooling/config.json";

const JSON_BYTES_MAX: u64 = 64 << 10;
const VOCABULARY_BYTES_MAX: u64 = 16 << 20;

/// The largest model: twice BERT large in every direction.
const HIDDEN_MAX: usize = 2_048;
const LAYERS_MAX: usize = 48;
const INTERMEDIATE_MAX: usize = 8_192;
const POSITIONS_MAX: usize = 2_048;
const TYPES_MAX: usize = 16;

/// A folder that was read and fits together. Whether the weights have the form of the configuration
/// shows when they are loaded.
pub(super) struct Files {
    pub(super) config: Config,
    pub(super) config_bytes: Vec<u8>,
    pub(super) vocabulary: Vocabulary,
    pub(super) vocabulary_bytes: Vec<u8>,
    /// The pieces a text begins and ends with.
    pub(super) ends: (u32, u32),
    pub(super) pieces_max: usize,
    pub(super) weights: Vec<u8>,
}

#[derive(Deserialize)]
struct Sentence {
    max_seq_length: usize,
}

#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default = "yes")]
    do_lower_case: bool,
    /// Absent or null: as lower case does, which is to strip them.
    strip_accents: Option<bool>,
    #[serde(default = "yes")]
    tokenize_chinese_chars: bool,
}

const fn yes() -> bool {
    true
}

/// Modes of pooling by name, beside other members; absent ones are off.
type Pooling = BTreeMap<String, serde_json::Value>;

pub(super) fn refused(file: &'static str, kind: ErrorKind, why: impl Into<BoxError>) -> Error {
    let source = why.into();
    Error::ModelFile { file, kind, source }
}

pub(super) fn read(folder: &Path) -> Result<Files> {
    let config_bytes = bytes(folder, CONFIG, JSON_BYTES_MAX)?;
    let config: Config = json(CONFIG, &config_bytes)?;
    check(&config)?;
    let mut pieces_max = config.max_position_embeddings;
    if let Some(sentence) = optional::<Sentence>(folder, SENTENCE)? {
        pieces_max = pieces_max.min(sentence.max_seq_length);
    }
    if pieces_max < 3 {
        return Err(invalid(SENTENCE, "no room for a piece of text"));
    }
    if let Some(tokenizer) = optional::<Tokenizer>(folder, TOKENIZER)? {
        let is_uncased = tokenizer.do_lower_case && tokenizer.tokenize_chinese_chars;
        if !is_uncased || tokenizer.strip_accents == Some(false) {
            return Err(invalid(
                TOKENIZER,
                "not a tokenizer without case and accents",
            ));
        }
    }
    if let Some(pooling) = optional::<Pooling>(folder, POOLING)? {
        let on = pooling.iter().filter(|(name, value)| {
            name.starts_with("pooling_mode_") && value.as_bool() == Some(true)
        });
        if !on.map(|(name, _)| name).eq(["pooling_mode_mean_tokens"]) {
            return Err(invalid(POOLING, "not mean pooling"));
        }
    }
    let vocabulary_bytes = bytes(folder, VOCABULARY, VOCABULARY_BYTES_MAX)?;
    let (vocabulary, ends) = vocabulary(&vocabulary_bytes, config.vocab_size)?;
    Ok(Files {
        weights: bytes(folder, WEIGHTS, CandleEmbedder::WEIGHTS_BYTES_MAX)?,
        config,
        config_bytes,
        vocabulary,
        vocabulary_bytes,
        ends,
        pieces_max,
    })
}

/// Refuses what would take more memory or time than a model of this form can need, before any of it
/// is taken.
fn check(config: &Config) -> Result<()> {
    let is_within = |n: usize, most: usize| (1..=most).contains(&n);
    let is_bert = config
        .model_type
        .as_deref()
        .is_none_or(|name| name == "bert");
    if !is_bert {
        return Err(invalid(CONFIG, "not a model of BERT's form"));
    }
    let is_bounded = is_within(config.hidden_size, HIDDEN_MAX)
        && is_within(config.num_hidden_layers, LAYERS_MAX)
        && is_within(config.intermediate_size, INTERMEDIATE_MAX)
        && is_within(config.max_position_embeddings, POSITIONS_MAX)
        && is_within(config.type_vocab_size, TYPES_MAX)
        && config.layer_norm_eps.is_finite();
    if !is_bounded {
        return Err(invalid(CONFIG, "a size beyond its limit"));
    }
    let heads = config.num_attention_heads;
    if !is_within(heads, config.hidden_size) || !config.hidden_size.is_multiple_of(heads) {
        return Err(invalid(CONFIG, "heads that do not divide the hidden size"));
    }
    Ok(())
}

fn vocabulary(bytes: &[u8], n_pieces: usize) -> Result<(Vocabulary, (u32, u32))> {
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let corrupt = |why: &'static str| refused(VOCABULARY, ErrorKind::Corrupt, why);
    let vocabulary = Vocabulary::parse(lines).ok_or_else(|| corrupt("not UTF-8"))?;
    if vocabulary.len() != n_pieces {
        return Err(corrupt("not as many pieces as the configuration says"));
    }
    let special = |piece| {
        let id = vocabulary.id(piece);
        id.ok_or_else(|| corrupt("a special piece of BERT is missing"))
    };
    let end = |piece| {
        let id = u32::try_from(special(piece)?);
        id.map_err(|_beyond| corrupt("too many pieces"))
    };
    let ends = (end("[CLS]")?, end("[SEP]")?);
    let unknown = special("[UNK]")?;
    Ok((vocabulary.with_unknown(unknown), ends))
}

fn invalid(file: &'static str, why: &'static str) -> Error {
    refused(file, ErrorKind::Invalid, why)
}

fn json<T: DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| refused(file, ErrorKind::Corrupt, e))
}

fn optional<T: DeserializeOwned>(folder: &Path, file: &'static str) -> Result<Option<T>> {
    match bytes(folder, file, JSON_BYTES_MAX) {
        Ok(bytes) => json(file, &bytes).map(Some),
        Err(Error::ModelFile {
            kind: ErrorKind::NotFound,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file of at most so many bytes. Only of a plain file: a pipe might never end.
fn bytes(folder: &Path, file: &'static str, most: u64) -> Result<Vec<u8>> {
    let path = folder.join(file);
    let unread = |e: io::Error| {
        let kind = match e.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        refused(file, kind, e)
    };
    let metadata = std::fs::metadata(&path).map_err(unread)?;
    if !metadata.is_file() {
        return Err(invalid(file, "not a file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows a file that grew since.
    let mut limited = File::open(&path)
        .map_err(unread)?
        .take(most.saturating_add(1));
    if metadata.len() <= most {
        limited.read_to_end(&mut bytes).map_err(unread)?;
    }
    let is_small = u64::try_from(bytes.len()).is_ok_and(|n| n <= most);
    if metadata.len() > most || !is_small {
        return Err(invalid(file, "too large"));
    }
    Ok(bytes)
}
