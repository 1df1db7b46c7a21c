"""word2vec beside gensim, in words a second of the same text.

    python benchmarks/recurrent.py [--rounds 3] [--peer_python PYTHON_WITH_GENSIM]

The text is the standard library's source as words. Both train skip-gram with 100 units, a window of
5 and 5 words of noise, subsampled at 1e-3: this project by `t5x-like train` with
`examples/word2vec.gin`, reading its cache, gensim with two workers, reading a file. They take
turns, each a process of its own; counting the vocabulary, tokenizing and compiling are left out.
Words are those of the text, with those that are then left out at random. What is printed are
medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from t5x_like.training import metrics_log

ROOT = Path(__file__).resolve().parent.parent
STEPS, FIRST = 140, 40  # steps of a round, and those before the first that counts
LINE = 1000  # words; gensim cuts longer lines than 10,000

GENSIM = """
import json, sys, time
from gensim.models import Word2Vec
from gensim.models.word2vec import LineSentence

text = LineSentence(sys.argv[1])
model = Word2Vec(vector_size=100, window=5, min_count=5, sg=1, negative=5, workers=2)
model.build_vocab(text)
began = time.perf_counter()
_, words = model.train(text, total_examples=model.corpus_count, epochs=1)
print(json.dumps(words / (time.perf_counter() - began)))
"""


def t5x_like(command: str, *flags: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "t5x_like", command, *flags],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)


def prepared(folder: Path) -> tuple[list[str], int]:
    """Counts, caches and writes the text; the flags of the task, and words of a step."""
    import tasks
    from tasks.objectives import ContextWindows
    from tasks.vocabularies import WordVocabulary

    words = folder / "words.txt"
    kind = ["--model_type=words", "--lower_case", "--pattern=[a-z]+"]
    t5x_like("vocab", "stdlib_text", *kind, f"--out={words}")
    task = ["--gin_file=examples/word2vec.gin", f"--gin.VOCABULARY_PATH={words}"]
    task += [f"--gin.CACHE_DIR={folder / 'cache'}", f"--gin.MODEL_DIR={folder / 'run'}"]
    t5x_like("cache", *task)
    vocabulary = WordVocabulary(str(words))
    with (folder / "text.txt").open("w") as file:
        for example in tasks.get_mixture_or_task("stdlib_text").examples("train"):
            split = vocabulary.splitter(example["targets"])
            for i in range(0, len(split), LINE):
                file.write(" ".join(split[i : i + LINE]) + "\n")
    row = ContextWindows().bind({"targets": vocabulary.spec()}).chunk_length({"targets": 1024})
    return task, 16 * row


def ours(folder: Path, task: list[str], number: int, words: int) -> float:
    run = f"--gin.MODEL_DIR={folder / f'run{number}'}"
    t5x_like(
        "train", *task[:-1], run, f"--gin.TRAIN_STEPS={STEPS}", "--gin.train.train.log_period=20",
        "--gin.train.train.validation=[]", "--gin.train.train.tensorboard=False",
    )  # fmt: skip
    records = metrics_log.read_records(str(folder / f"run{number}"))
    seconds = [r["step_seconds"] for r in records if "step_seconds" in r and r["step"] > FIRST]
    return words / statistics.median(seconds)


def peer(folder: Path, python: str) -> float:
    done = subprocess.run(
        [python, "-c", GENSIM, str(folder / "text.txt")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer_python", default=sys.executable, help="one that has gensim")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        task, words = prepared(folder)
        rounds = [
            (ours(folder, task, number, words), peer(folder, options.peer_python))
            for number in range(options.rounds)
        ]
    own, of_peer = (statistics.median(side) for side in zip(*rounds, strict=True))
    print(f"word2vec  {own:>12,.0f} words/s")
    print(f"gensim    {of_peer:>12,.0f} words/s, two workers")
    print(f"ratio     {own / of_peer:>12.2f}")


if __name__ == "__main__":
    main()
