"""Mem0's side of the race: adds every text with infer=False, asks every question, prints its laps.

    python mem0_side.py FOLDER

FOLDER has texts.json ({"texts": [[user, text], ...], "questions": [...]}, written by the race) and vectors.f32, the vector
of each text and then of each question. Mem0 takes these, so embedding costs it nothing. Prints one JSON object a line.
"""
import json
import os
import resource
import sys
import time
import warnings

folder = sys.argv[1]
# Mem0 reads these when it is imported: its telemetry is on by default, and its own files go to the home directory.
os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=os.path.join(folder, "mem0"), HF_HUB_OFFLINE="1")
warnings.filterwarnings("ignore", message="Payload indexes have no effect")

import numpy as np
from mem0 import Memory
from mem0.embeddings.base import EmbeddingBase
from mem0.utils import spacy_models


class Known(EmbeddingBase):
    """Vectors worked out beforehand."""

    def __init__(self, texts, vectors):
        super().__init__()
        self.vectors = {text: vector.tolist() for text, vector in zip(texts, vectors)}
        self.config.embedding_dims = vectors.shape[1]

    def embed(self, text, memory_action=None):
        return self.vectors[text]

    def embed_batch(self, texts, memory_action="add"):
        return [self.vectors[text] for text in texts]


def open_memory(embedder):
    # The clients of the language model and of the endpoint are built and never called.
    unused = {"api_key": "unused"}
    dimensions = embedder.config.embedding_dims
    memory = Memory.from_config({
        "vector_store": {"provider": "qdrant", "config": {
            "collection_name": "race", "embedding_model_dims": dimensions, "on_disk": True,
            "path": os.path.join(folder, "qdrant")}},
        "llm": {"provider": "openai", "config": unused},
        "embedder": {"provider": "openai", "config": {**unused, "embedding_dims": dimensions}},
        "history_db_path": os.path.join(folder, "history.db")})
    memory.embedding_model = embedder
    # Without the optional language packages, as `pip install mem0ai` leaves it.
    memory.vector_store._bm25_encoder = False
    spacy_models._load_failed_full = spacy_models._load_failed_lemma = True
    return memory


def report(what, laps, found=None):
    p50, p95 = np.percentile(np.array(laps) * 1e3, (50, 95))
    line = {"what": what, "n": len(laps), "per_s": len(laps) / sum(laps), "p50_ms": p50, "p95_ms": p95}
    if found is not None:
        line["hits"] = found
    print(json.dumps(line), flush=True)


def main():
    with open(os.path.join(folder, "texts.json")) as file:
        data = json.load(file)
    texts, questions = data["texts"], data["questions"]
    all_texts = [text for _, text in texts + questions]
    vectors = np.fromfile(os.path.join(folder, "vectors.f32"), dtype="<f4").reshape(len(all_texts), -1)
    memory = open_memory(Known(all_texts, vectors))
    laps = []
    for user, text in texts:
        start = time.perf_counter()
        memory.add(text, user_id=user, infer=False)
        laps.append(time.perf_counter() - start)
    report("add", laps)
    laps, n_found = [], 0
    for user, text in questions:
        start = time.perf_counter()
        found = memory.search(text, filters={"user_id": user}, top_k=data["limit"])
        laps.append(time.perf_counter() - start)
        n_found += len(found["results"])
    report("search", laps, n_found)
    print(json.dumps({"what": "resident_mib", "n": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


main()
