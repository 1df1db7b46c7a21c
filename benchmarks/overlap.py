"""Finds test examples in training text: the time, the memory, and whether all are found.

    python -m benchmarks.overlap [--gigabytes 1] [--examples 100000] [--num_workers 1]

Words are drawn by a Zipf law from 50,000; documents have 500 words and examples 40. One example in
ten is copied whole into a document, of one in ten the first 20 words are, and the others are drawn
by themselves: GPT-3's rule calls a fifth dirty, PaLM's a tenth. Training text is read from JSON
lines, as `t5x-like overlap` reads it.
"""

import argparse
import functools
import itertools
import json
import resource
import string
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from t5x_like.overlap import scan
from t5x_like.overlap.index import Index
from t5x_like.overlap.rules import ExampleGrams
from tasks.sources import JsonLines

VOCABULARY, DOCUMENT, EXAMPLE, COPIED = 50_000, 500, 40, 20
ZIPF = 1.1


def words(rng: np.random.Generator, count: int) -> list[str]:
    """Drawn words, the first of which are frequent."""
    shares = 1 / np.arange(1, VOCABULARY + 1) ** ZIPF
    ranks = np.searchsorted(np.cumsum(shares) / shares.sum(), rng.random(count))
    return _pool()[np.minimum(ranks, VOCABULARY - 1)].tolist()


@functools.cache
def _pool() -> np.ndarray:
    """Words of four letters, which with a space are about as long as English ones."""
    letters = itertools.product(string.ascii_lowercase, repeat=4)
    found = ["".join(each) for each in itertools.islice(letters, VOCABULARY)]
    return np.array(found, object)


def tests(count: int) -> list[str]:
    """The examples, of which the first fifth goes into the training text."""
    drawn = words(np.random.default_rng(1), count * EXAMPLE)
    return [" ".join(drawn[i : i + EXAMPLE]) for i in range(0, len(drawn), EXAMPLE)]


def write_documents(path: Path, examples: list[str], size: int) -> int:
    """Training text of so many bytes, an example hidden here and there; returns the documents."""
    hidden = examples[: len(examples) // 10]
    hidden += [
        " ".join(example.split()[:COPIED])
        for example in examples[len(examples) // 10 : len(examples) // 5]
    ]
    rng = np.random.default_rng(2)
    written = number = 0
    each = max(1.0, size / 2520 / len(hidden))  # documents for each of them, about
    with open(path, "w", encoding="utf-8") as file:
        while written < size or number < len(hidden) * each:
            drawn = words(rng, 1000 * DOCUMENT)
            for i in range(0, len(drawn), DOCUMENT):
                text = drawn[i : i + DOCUMENT]
                nth, rest = divmod(number, each)
                if rest < 1 and nth < len(hidden):
                    text[250:250] = [f"{hidden[int(nth)].capitalize()}."]
                line = json.dumps({"text": " ".join(text)}) + "\n"
                file.write(line)
                written += len(line)
                number += 1
    return number


def texts(path: Path) -> Iterator[str]:
    """The text of each line."""
    source = JsonLines(files={"train": str(path)}, columns=("text",))
    return (row["text"] for row in source.rows("train"))


def main() -> None:
    """Writes the text, searches it, and prints a line of figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--num_workers", type=int, default=1)
    options = parser.parse_args()
    examples = tests(options.examples)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.jsonl")
        documents = write_documents(path, examples, int(options.gigabytes * 1e9))
        before = usage()
        begun = time.perf_counter()
        grams = ExampleGrams(examples)
        index = Index.of(grams.grams)
        indexed = time.perf_counter()
        counts = scan.documents_with(index, texts(path), num_workers=options.num_workers)
        found = grams.found(index, counts, None)
        seconds = time.perf_counter() - begun
        tenth = len(examples) // 10
        print(
            json.dumps(
                {
                    "bytes": path.stat().st_size,
                    "documents": documents,
                    "examples": len(examples),
                    "ngrams": len(index.hashes),
                    "seconds": round(seconds, 1),
                    "seconds_of_the_index": round(indexed - begun, 1),
                    "cpu_seconds": round(usage() - before, 1),
                    "peak_megabytes": peak(resource.RUSAGE_SELF),
                    "peak_megabytes_of_a_worker": peak(resource.RUSAGE_CHILDREN),
                    "copied_and_found": int(found.gpt3[: 2 * tenth].sum()),
                    "not_copied_and_found": int(found.gpt3[2 * tenth :].sum()),
                    "palm": int(found.palm.sum()),
                    "copied": 2 * tenth,
                }
            )
        )


def usage() -> float:
    """Processor seconds of this process and those that it has started and that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def peak(who: int) -> float:
    """The largest resident set, shared pages included, in megabytes."""
    return round(resource.getrusage(who).ru_maxrss / 1e3)


if __name__ == "__main__":
    main()
