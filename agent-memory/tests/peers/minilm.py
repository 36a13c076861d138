"""Sentence vectors of all-MiniLM-L6-v2 by numpy and Hugging Face's tokenizer: what `tests/candle_embedder.rs` compares with.

    python3 minilm.py FOLDER < static_embedder.json > minilm.json

FOLDER holds the model (`model.safetensors`, `tokenizer.json`); the input is a list of objects with a `text`. Needs numpy,
safetensors and tokenizers. Each line of the result has the first numbers of a vector, and its product with a ramp.
"""
import json
import math
import os
import sys

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

DIM, HEADS, LAYERS = 384, 12, 6


def erf(x):
    """Abramowitz and Stegun 7.1.26, error below 1.5e-7."""
    sign, x = np.sign(x), np.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * x)
    poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return (sign * (1.0 - poly * np.exp(-x * x))).astype(np.float32)


def layer_norm(x, gain, bias):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-12) * gain + bias


class MiniLM:
    def __init__(self, model, max_len=256):
        self.w = load_file(os.path.join(model, "model.safetensors"))
        for name, value in self.w.items():
            if name.startswith("encoder.") and value.ndim == 2:
                self.w[name] = value.T.copy()
        self.tok = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
        self.tok.no_padding()
        self.tok.enable_truncation(max_len)

    def _linear(self, x, name):
        flat = x.reshape(-1, x.shape[-1]) @ self.w[name + ".weight"] + self.w[name + ".bias"]
        return flat.reshape(*x.shape[:-1], -1)

    def _norm(self, x, name):
        return layer_norm(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def forward(self, ids):
        """ids [B, T], all of one length (so no mask is needed) -> [B, T, 384]."""
        batch, length = ids.shape
        emb = "embeddings."
        x = self.w[emb + "word_embeddings.weight"][ids] + self.w[emb + "position_embeddings.weight"][:length]
        x = self._norm(x + self.w[emb + "token_type_embeddings.weight"][0], emb + "LayerNorm")
        for i in range(LAYERS):
            p = f"encoder.layer.{i}."
            heads = lambda y: y.reshape(batch, length, HEADS, DIM // HEADS).transpose(0, 2, 1, 3)
            q, k, v = (heads(self._linear(x, p + "attention.self." + n)) for n in ("query", "key", "value"))
            score = q @ k.transpose(0, 1, 3, 2) / math.sqrt(DIM // HEADS)
            score = np.exp(score - score.max(-1, keepdims=True))
            score /= score.sum(-1, keepdims=True)
            mixed = (score @ v).transpose(0, 2, 1, 3).reshape(batch, length, DIM)
            x = self._norm(x + self._linear(mixed, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            h = self._linear(x, p + "intermediate.dense")
            h = h * 0.5 * (1.0 + erf(h / math.sqrt(2.0)))
            x = self._norm(x + self._linear(h, p + "output.dense"), p + "output.LayerNorm").astype(np.float32)
        return x

    def encode(self, texts, batch_tokens=4096):
        """Mean-pooled, unit-length vectors, in the order of `texts`."""
        ids = [e.ids for e in self.tok.encode_batch(list(texts))]
        out, by_length = np.zeros((len(ids), DIM), np.float32), {}
        for i, row in enumerate(ids):
            by_length.setdefault(len(row), []).append(i)
        for length, rows in by_length.items():
            step = max(1, batch_tokens // length)
            for start in range(0, len(rows), step):
                part = rows[start:start + step]
                pooled = self.forward(np.array([ids[i] for i in part])).mean(1)
                out[part] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return out


def main():
    texts = [entry["text"] for entry in json.load(sys.stdin)]
    vectors = MiniLM(sys.argv[1]).encode(texts)
    ramp = np.arange(DIM) / DIM
    rows = ({"text": text, "head": [round(float(x), 6) for x in vector[:8]], "ramp": round(float(vector @ ramp), 6)}
            for text, vector in zip(texts, vectors))
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")


if __name__ == "__main__":
    main()
