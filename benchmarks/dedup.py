"""Finds near duplicates that were planted: the time, the memory, precision and recall.

    python -m benchmarks.dedup [--documents 100000] [--num_workers 2]

Documents have 340 words, 2 kB, drawn by a Zipf law from 50,000. One in ten is a copy of an earlier
one of which so many words in a row are replaced that the similarity of their 13-grams is about
0.7, 0.8, 0.9 or 0.95, each as often. They are read from JSON lines in 16 files.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.overlap import words
from t5x_like.near_duplicates.deduplicate import deduplicate
from t5x_like.near_duplicates.documents import DocumentRule
from tasks.sources import JsonLines

WORDS, FILES, N = 340, 16, 13
SIMILARITIES = (0.7, 0.8, 0.9, 0.95)


class Documents:
    """The documents of files, as `t5x-like dedup` reads them."""

    def __init__(self, folder: str) -> None:
        self.source = JsonLines(files={"train": f"{folder}/*.jsonl"}, columns=("text",))

    def shards(self, split: str) -> Sequence[str]:
        """The files."""
        return self.source.shards(split)

    def texts(self, split: str, shard: str) -> Iterator[str]:
        """Of each line."""
        return (row["text"] for row in self.source.rows(split, [shard]))

    def settings(self) -> dict[str, str]:
        """Of the files."""
        return {"source": self.source.fingerprint()}


def write(folder: Path, count: int) -> dict[tuple[int, int], float]:
    """Writes the files; returns the copies, by file and row, with their similarity."""
    rng = np.random.default_rng(0)
    originals = count - count // 10
    copies = {}
    for number in range(FILES):
        drawn = words(rng, originals // FILES * WORDS)
        texts = [drawn[i : i + WORDS] for i in range(0, len(drawn), WORDS)]
        for i in range(count // 10 // FILES):
            similarity = SIMILARITIES[i % len(SIMILARITIES)]
            text = list(texts[i])
            grams = WORDS - N + 1
            # Of s shingles that are lost the other has as many of its own: (g - s) / (g + s).
            lost = round(grams * (1 - similarity) / (1 + similarity))
            text[: max(lost, 1)] = words(rng, max(lost, 1))
            copies[number, len(texts)] = similarity
            texts.append(text)
        lines = (json.dumps({"text": " ".join(text)}) + "\n" for text in texts)
        (folder / f"{number:02d}.jsonl").write_text("".join(lines))
    return copies


def main() -> None:
    """Prints one line for each figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--num_workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copies = write(Path(folder), options.documents)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        # From here on: writing the documents takes memory of its own.
        Path("/proc/self/clear_refs").write_text("5")
        path = Path(folder, "lists", "list.jsonl")
        begun = time.monotonic()
        head = deduplicate(
            Documents(folder), ["train"], path, DocumentRule(N), num_workers=options.num_workers
        )
        seconds = time.monotonic() - begun
        lines = map(json.loads, path.read_text().splitlines()[1:])
        found = {(line["shard"], row) for line in lines for row in line["rows"]}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"{head['documents']:,} documents, {size / 1e6:,.0f} MB, {len(copies):,} copies")
    print(f"{seconds:.1f} s, processor time of the readers {used.ru_utime + used.ru_stime:.1f} s")
    memory = int(status["VmHWM"].split()[0]) / 1e3
    print(f"memory: {memory:,.0f} MB, a reader {used.ru_maxrss / 1e3:,.0f} MB")
    print(f"precision {len(found & copies.keys()) / max(len(found), 1):.4f} of {len(found):,}")
    for similarity in SIMILARITIES:
        planted = {place for place, value in copies.items() if value == similarity}
        expected = DocumentRule(N).bands.candidate_probability(similarity)
        recall = len(found & planted) / len(planted)
        print(f"similarity {similarity}: recall {recall:.4f}, expected {expected:.4f}")


if __name__ == "__main__":
    main()
