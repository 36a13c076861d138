//! A sentence transformer of BERT's form in the process, such as all-MiniLM-L6-v2, from a folder
//! that the host names. Nothing is downloaded.
//!
//! The pieces are mean pooled and brought to length one (Reimers and Gurevych 2019, arXiv
//! 1908.10084; the folder's `1_Pooling/config.json` and `modules.json` say the same).

mod files;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use agent_core::{Digest, Embedder, Env, ErrorKind, Retry, Scope, TokenVectors};
use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;

use crate::error::Result;
use crate::wordpiece::Vocabulary;

const NAME: &str = "a model in the process";
/// The texts that go to a thread at once: a call that is stopped ends after them.
const TEXTS_PER_TURN: usize = 32;
/// The pieces that go through the model at once; they bound what it takes of main memory.
const PIECES_PER_PASS: usize = 4_096;

/// Embeds text by a transformer of BERT's form (uncased) on the processor, without a network.
///
/// Its folder is laid out as sentence-transformers writes it: `config.json`, `vocab.txt` and
/// `model.safetensors`, and if they are there `sentence_bert_config.json` (how many pieces of a text
/// count), `tokenizer_config.json` and `1_Pooling/config.json`, which must not ask for what this
/// does not do.
///
/// A text without pieces has the zero vector; of a long text the first pieces count. Texts go
/// through the model in groups of the same number of pieces, without padding. Text that looks like
/// a special piece, `[SEP]` for example, is text. The work is done on tokio's blocking threads and
/// rayon's. Wrap it in [`CachedEmbedder`](crate::layer::CachedEmbedder): it is some hundred times
/// slower than the bundled table.
pub struct CandleEmbedder {
    model: Arc<Model>,
    env: Env,
}

struct Model {
    bert: BertModel,
    vocabulary: Vocabulary,
    /// The pieces a text begins and ends with.
    ends: (u32, u32),
    pieces_max: usize,
    dimensions: usize,
    space: String,
}

/// Where a vector belongs, and the pieces it is of.
type Place<'a> = (&'a mut Vec<f32>, Vec<u32>);

impl fmt::Debug for CandleEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CandleEmbedder")
            .field("space", &self.model.space)
            .finish_non_exhaustive()
    }
}

impl CandleEmbedder {
    /// The most bytes of `model.safetensors`; as much main memory is needed, twice while opening.
    pub const WEIGHTS_BYTES_MAX: u64 = 2 << 30;

    /// Reads a model from its folder, on the caller's thread: 90 MB for all-MiniLM-L6-v2.
    ///
    /// The space is named by a digest of the weights, the vocabulary and the configuration: the same
    /// files in another folder are the same space.
    ///
    /// # Errors
    /// `ModelFile` with kind `NotFound`, `Unavailable` or `Corrupt`, or `Invalid` for a model of
    /// another form, with case, pooled otherwise, or beyond a limit.
    pub fn open(folder: impl AsRef<Path>, env: &Env) -> Result<Self> {
        let files = files::read(folder.as_ref())?;
        let bad = |e: candle_core::Error| files::refused(files::WEIGHTS, ErrorKind::Corrupt, e);
        let mut digests = Vec::with_capacity(3 * 32);
        for bytes in [&files.config_bytes, &files.vocabulary_bytes, &files.weights] {
            digests.extend_from_slice(Digest::of_bytes(bytes).as_bytes());
        }
        let digest = Digest::of_bytes(&digests).to_string();
        let short: String = digest.chars().take(16).collect();
        let space = format!(
            "bert-mean-{}@{short}/{}",
            files.config.hidden_size, files.pieces_max
        );
        let weights =
            VarBuilder::from_buffered_safetensors(files.weights, DType::F32, &Device::Cpu)
                .map_err(bad)?;
        let model = Model {
            bert: BertModel::load(weights, &files.config).map_err(bad)?,
            vocabulary: files.vocabulary,
            ends: files.ends,
            pieces_max: files.pieces_max,
            dimensions: files.config.hidden_size,
            space,
        };
        // Weights that are not finite show in every vector.
        let probe = model.vectors(&["a".to_owned()]).map_err(bad)?;
        if !probe.iter().flatten().all(|x| x.is_finite()) {
            let reason = "weights that are not finite";
            return Err(files::refused(files::WEIGHTS, ErrorKind::Corrupt, reason));
        }
        Ok(Self {
            model: Arc::new(model),
            env: env.clone(),
        })
    }

    /// Returns how many word pieces of a text count, the two that every text begins and ends with
    /// included.
    #[must_use]
    pub fn pieces_max(&self) -> usize {
        self.model.pieces_max
    }
}

impl Model {
    /// Embeds texts, in their order.
    fn vectors(&self, texts: &[String]) -> candle_core::Result<Vec<Vec<f32>>> {
        let mut vectors = vec![vec![0.0; self.dimensions]; texts.len()];
        let mut by_length: BTreeMap<usize, Vec<Place<'_>>> = BTreeMap::new();
        for (vector, text) in vectors.iter_mut().zip(texts) {
            let pieces = self.pieces(text);
            if pieces.len() > 2 {
                let group = by_length.entry(pieces.len()).or_default();
                group.push((vector, pieces));
            }
        }
        for (length, mut group) in by_length {
            for pass in group.chunks_mut((PIECES_PER_PASS / length).max(1)) {
                let pieces: Vec<u32> = pass.iter().flat_map(|(_, ids)| ids).copied().collect();
                let ids = Tensor::from_vec(pieces, (pass.len(), length), &Device::Cpu)?;
                let hidden = self.bert.forward(&ids, &ids.zeros_like()?, None)?;
                let means: Vec<Vec<f32>> = hidden.mean(1)?.to_vec2()?;
                for ((vector, _), mean) in pass.iter_mut().zip(means) {
                    **vector = mean;
                    normalize(vector);
                }
            }
        }
        Ok(vectors)
    }

    fn pieces(&self, text: &str) -> Vec<u32> {
        let (first, last) = self.ends;
        let mut ids = vec![first];
        let n_max = self.pieces_max.saturating_sub(2);
        self.vocabulary.for_each_piece(text, n_max, |id| {
            // The vocabulary has no more pieces than the configuration, whose numbers are small.
            ids.extend(u32::try_from(id));
        });
        ids.push(last);
        ids
    }
}

fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

#[async_trait]
impl Embedder for CandleEmbedder {
    fn space(&self) -> &str {
        &self.model.space
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions
    }

    fn token_vectors(&self) -> Option<Arc<dyn TokenVectors>> {
        None
    }

    async fn embed(&self, scope: &Scope, texts: &[String]) -> agent_core::Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::with_capacity(texts.len());
        for turn in texts.chunks(TEXTS_PER_TURN) {
            let (model, turn) = (Arc::clone(&self.model), turn.to_vec());
            let work = tokio::task::spawn_blocking(move || model.vectors(&turn));
            let done = scope.guard(self.env.clock.as_ref(), work).await?;
            let turn = done
                .map_err(|ended| failed(ErrorKind::Internal, ended))?
                .map_err(|e| failed(ErrorKind::Internal, e))?;
            vectors.extend(turn);
        }
        Ok(vectors)
    }
}

fn failed(kind: ErrorKind, source: impl Into<agent_core::BoxError>) -> agent_core::Error {
    agent_core::Error::backend(NAME, "embed", kind, Retry::Never, source)
}
