"""Counts an n-gram model of generated text, and tells processor seconds and memory of each part.

Tokens are drawn independently with Zipf's frequencies, of 32,000 kinds: such a text repeats itself
less than a real one, and so has more n-grams.

    python benchmarks/ngram.py --tokens=100000000 --order=5
"""

import argparse
import json
import resource
import tempfile
import time

import numpy as np

from models.ngram import Counter
from models.ngrams.counts import count_ngrams
from models.ngrams.table import estimated_table
from t5x_like.checkpoints import host_params
from t5x_like.host import memory

VOCAB_SIZE, ROW = 32_000, 512


def zipf_text(tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = -(-tokens // ROW)
    shares = np.cumsum(1 / np.arange(1, VOCAB_SIZE))
    text = np.zeros((rows, ROW + 1), np.int32)
    for row in range(rows):  # in float64 all at once would be the largest array of the benchmark
        text[row, 1:] = 1 + np.searchsorted(shares, rng.random(ROW) * shares[-1])
    return text.reshape(-1), np.full(rows, ROW + 1)


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measured(tokens: int, order: int) -> dict[str, float]:
    memory.give_back_large_blocks()
    text, sizes = zipf_text(tokens)
    found = {"tokens": float((sizes - 1).sum()), "order": order, "text_gb": peak_gigabytes()}
    began = time.process_time()
    counts = count_ngrams(text, sizes, order=order, vocab_size=VOCAB_SIZE)
    found |= {"count_seconds": time.process_time() - began, "count_gb": peak_gigabytes()}
    found["ngrams"] = sum(level.tokens.size for level in counts.levels)
    del text
    began = time.process_time()
    table, _ = estimated_table(counts, Counter(order).smoothing)
    found |= {"smooth_seconds": time.process_time() - began, "smooth_gb": peak_gigabytes()}
    del counts
    began = time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        host_params.write_params(directory, table, 0, {"parameters": found["ngrams"]})
    found |= {"write_seconds": time.process_time() - began, "write_gb": peak_gigabytes()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--order", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measured(options.tokens, options.order)))


if __name__ == "__main__":
    main()
