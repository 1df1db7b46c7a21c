"""LSTMs beside PyTorch's, and word2vec beside gensim.

    python benchmarks/recurrent.py [lstm] [word2vec] [--rounds 3] [--peer_python WITH_GENSIM]

`lstm`: a training step of two layers of 650 units with embeddings of 650 and an output of 10,000
words, on 20 rows of 35 tokens and on 64 of 128, beside the same layers of `torch.nn`: forward,
backward and AdamW in float32 without dropout, on a batch that is already there, with the loss read
back. Contenders take turns, each a process of its own with the threads that it chooses itself;
compiling and the first steps are left out. Ratios are PyTorch's time by ours.

`word2vec`: words a second of the same text, the standard library's source as words. Both train
skip-gram with 100 units, a window of 5 and 5 words of noise, subsampled at 1e-3: this project by
`t5x-like train` with `examples/word2vec.gin`, reading its cache, gensim with two workers, reading a
file. They take turns, each a process of its own; counting the vocabulary, tokenizing and compiling
are left out. Words are those of the text, with those that are then left out at random.

What is printed are medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from t5x_like.training import metrics_log

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY, UNITS, LAYERS = 10_000, 650, 2
LSTM_SHAPES = ((20, 35), (64, 128))  # rows, tokens
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


def our_lstm(rows: int, length: int) -> Callable[[], float]:
    """A training step that returns its loss."""
    from t5x_like.host import memory

    memory.keep_freed_memory()
    import jax
    import numpy as np

    from models import recurrent
    from t5x_like import optimizers, partitioning, schedules
    from t5x_like.training import state as train_state
    from t5x_like.training import step as train_step

    model = recurrent.RecurrentLM(vocab_size=VOCABULARY, embed_dim=UNITS, num_layers=LAYERS)
    partitioner = partitioning.Partitioner()
    optimizer = optimizers.adamw(schedules.Constant(1e-3))
    state = train_state.create_state(model, optimizer, partitioner, seed=0)
    take = train_step.make_train_step(model, optimizer, partitioner)
    draw = np.random.default_rng(0).integers
    tokens = draw(1, VOCABULARY, (rows, length + 1), dtype=np.int32)
    batch = partitioner.shard_batch(
        {"decoder_input_tokens": tokens[:, :-1], "decoder_target_tokens": tokens[:, 1:]}
    )

    def step() -> float:
        nonlocal state
        state, metrics = take(state, batch)
        total, weight = jax.device_get(metrics["loss"])
        return float(total / weight)

    return step


def torch_lstm(rows: int, length: int) -> Callable[[], float]:
    """The same of PyTorch's layers."""
    import torch

    torch.manual_seed(0)
    embedding = torch.nn.Embedding(VOCABULARY, UNITS)
    layers = torch.nn.LSTM(UNITS, UNITS, LAYERS, batch_first=True)
    output = torch.nn.Linear(UNITS, VOCABULARY)
    parameters = [p for part in (embedding, layers, output) for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    tokens = torch.randint(1, VOCABULARY, (rows, length + 1))

    def step() -> float:
        optimizer.zero_grad()
        logits = output(layers(embedding(tokens[:, :-1]))[0])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


LSTMS = {"t5x-like": our_lstm, "torch": torch_lstm}


def timed(contender: str, rows: int, length: int, steps: int) -> None:
    """Prints the median seconds of a step, and the last loss."""
    step = LSTMS[contender](rows, length)
    for _ in range(3):
        step()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps([statistics.median(seconds), loss]))


def lstm(rounds: int, steps: int) -> None:
    for rows, length in LSTM_SHAPES:
        seconds: dict[str, list[float]] = {name: [] for name in LSTMS}
        for _ in range(rounds):
            for name, found in seconds.items():
                flags = [f"--contender={name}", f"--shape={rows}x{length}", f"--steps={steps}"]
                done = subprocess.run(
                    [sys.executable, __file__, *flags], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(done.stderr)
                found.append(json.loads(done.stdout.splitlines()[-1])[0])
        own, peer = (statistics.median(found) for found in seconds.values())
        print(
            f"lstm {LAYERS} x {UNITS}, {rows} x {length}: t5x-like {own * 1e3:,.1f} ms, "
            f"torch {peer * 1e3:,.1f} ms, ratio {peer / own:.2f}"
        )


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


def word2vec(rounds: int, python: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        task, words = prepared(folder)
        sides = [
            (ours(folder, task, number, words), peer(folder, python)) for number in range(rounds)
        ]
    own, of_peer = (statistics.median(side) for side in zip(*sides, strict=True))
    print(f"word2vec  {own:>12,.0f} words/s")
    print(f"gensim    {of_peer:>12,.0f} words/s, two workers")
    print(f"ratio     {own / of_peer:>12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["lstm", "word2vec"], help="lstm, word2vec")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="of an LSTM in a round")
    parser.add_argument("--peer_python", default=sys.executable, help="one that has gensim")
    parser.add_argument("--contender", choices=LSTMS, help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        rows, length = map(int, options.shape.split("x"))
        timed(options.contender, rows, length, options.steps)
        return
    if unknown := set(options.parts) - {"lstm", "word2vec"}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}: lstm, word2vec")
    if "lstm" in options.parts:
        lstm(options.rounds, options.steps)
    if "word2vec" in options.parts:
        word2vec(options.rounds, options.peer_python)


if __name__ == "__main__":
    main()
