"""A tagger that also learns of text without tags beside the same tagger alone: F1 over seeds.

    python -m benchmarks.cross_view --train train.conll --dir runs/cross_view

takes every tenth sentence of the file with its tags, holds two of ten out, and takes the words of
the others without their tags; with `--dev FILE` that file is held out, and none of the first.
`--more FILE ...` adds the words of other such files, without their tags. For each seed a tagger of
`models/cvt/tiny.gin` is trained twice, for as many steps and on as many tagged sentences: alone,
and with as many untagged ones beside them. With `--first STEPS` both begin from the tagger after
so many steps alone. It prints both taggers' F1 of the entities held out, in percent, and the mean
difference with its 95% interval.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.distillation import held_out, interval
from t5x_like.cli import main

Sentence = list[list[str]]
ALONE, CROSS_VIEW, FIRST = "alone", "cross_view", "first"


def sentences(path: str) -> Iterator[Sentence]:
    """The sentences of a file with a word and its tag in each line; a blank line ends one."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for real, group in itertools.groupby(lines, key=lambda line: bool(line.strip())):
        if real:
            yield [line.split("\t") for line in group]


def divided(args: argparse.Namespace) -> None:
    """Writes the tagged tenth, what is held out, the text of the rest, and the text of all."""
    train = list(sentences(args.train))
    out = Path(args.dir)
    out.mkdir(parents=True, exist_ok=True)
    held = () if args.dev else (1, 2)
    for name, of in (("tenth", (0,)), ("held_out", held)):
        some = (one for i, one in enumerate(train) if i % 10 in of)
        rows = ("\n".join("\t".join(row) for row in one) for one in some)
        (out / f"{name}.conll").write_text("\n\n".join(rows) + "\n", encoding="utf-8")
    more = [one for path in args.more for one in sentences(path)]
    rest = [one for i, one in enumerate(train) if i % 10 not in (0, *held)]
    for name, read in (("rest", rest + more), ("all", train + more)):
        lines = (" ".join(row[0] for row in one) + "\n" for one in read)
        (out / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


def called(*argv: str) -> None:
    """Runs a command of `t5x-like`; leaves with its exit code if that is not 0."""
    code = main(list(argv))
    if code:
        raise SystemExit(code)


def f1(args: argparse.Namespace, kind: str, seed: int) -> float:
    """Of the entities, in percent, after a run."""
    out = Path(args.dir)
    run = out / f"{kind}_{seed}"
    steps = args.first if kind == FIRST else args.steps
    with_text = [
        "--gin_file=tasks/mixtures/unlabelled_text.gin",
        f"--gin.UNLABELLED_FILES={out / 'rest.txt'}",
    ]
    from_vectors = [
        "--gin_file=runs/from_vectors.gin",
        f"--gin.VECTORS_PATH={args.vectors}",
        "--gin.vectors.InitialVectors.parameter='token_embedder/embedding'",
        "--gin.TRAINED=['.']",
    ]
    fresh = from_vectors if args.vectors else ["--gin_file=runs/pretrain.gin"]
    from_first = [
        "--gin_file=runs/finetune.gin",
        f"--gin.INITIAL_CHECKPOINT_PATH={out / f'{FIRST}_{seed}'}",
        "--gin.DROPOUT_RATE=0.5",  # the tagger's own
    ]
    called(
        "train",
        "--gin_file=models/cvt/tiny.gin",
        "--gin_file=tasks/ner_conll.gin",
        "--gin_file=tasks/vocabularies/spelled_words.gin",
        *(with_text if kind == CROSS_VIEW else []),
        f"--gin.cvt.CVT.cross_view_coefficient={args.coefficient}",
        "--gin_file=optimizers/adamw.gin",
        *(from_first if args.first and kind != FIRST else fresh),
        f"--gin.VOCABULARY_PATH={out / 'words.txt'}",
        f"--gin.VOCAB_SIZE={args.vocab_size}",
        f"--gin.TRAIN_FILES={out / 'tenth.conll'}",
        f"--gin.VALIDATION_FILES={args.dev or out / 'held_out.conll'}",
        f"--gin.ENTITIES={args.entities}",
        f"--gin.CACHE_DIR={out / 'cache'}",
        f"--gin.TASK_FEATURE_LENGTHS={{'inputs': {args.length}}}",
        f"--gin.BATCH_SIZE={args.rows * (2 if kind == CROSS_VIEW else 1)}",
        f"--gin.LEARNING_RATE={args.rate}",
        f"--gin.WARMUP_STEPS={steps // 20}",
        f"--gin.TRAIN_STEPS={steps}",
        f"--gin.SEED={seed}",
        f"--gin.train.train.log_period={steps // 5}",
        f"--gin.EVAL_PERIOD={steps}",
        "--gin.train.train.tensorboard=False",
        f"--gin.MODEL_DIR={run}",
    )
    called("eval", f"--gin_file={run}/config.gin", "--gin_file=runs/eval.gin")
    return held_out(run, "entity_f1")


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--dev", help="a file to hold out, in place of a part of the first")
    parser.add_argument("--more", nargs="*", default=(), help="files to take words of alone")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--vectors", help="of words to begin with, each of 50 numbers")
    parser.add_argument(
        "--entities",
        default="['person', 'location', 'group', 'corporation', 'product', 'creative-work']",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="steps alone before either")
    parser.add_argument("--rows", type=int, default=16, help="tagged sentences of a batch")
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--coefficient", type=float, default=1.0, help="of the cross-view loss")
    parser.add_argument("--vocab_size", type=int, default=4096)
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds: an interval needs two or more.")
    divided(args)
    out = Path(args.dir)
    called(
        "vocab",
        "--gin_file=tasks/text_files.gin",
        f"--gin.TRAIN_FILES={out / 'all.txt'}",
        "--gin.SEPARATOR='\\n'",
        "--gin.HELD_OUT=0",
        f"--gin.CACHE_DIR={out / 'cache'}",
        "--model_type=words",
        "--min_count=3",
        f"--vocab_size={args.vocab_size - 256}",
        f"--out={out / 'words.txt'}",
    )
    found: dict[str, list[float]] = {ALONE: [], CROSS_VIEW: []}
    for seed in range(args.seeds):
        if args.first:
            print(f"seed {seed}  {FIRST}  F1 {f1(args, FIRST, seed):.2f}", flush=True)
        for kind, values in found.items():
            values.append(f1(args, kind, seed))
            print(f"seed {seed}  {kind}  F1 {values[-1]:.2f}", flush=True)
    for kind, values in found.items():
        print(f"{kind}: mean {np.mean(values):.2f}, sd {np.std(values, ddof=1):.2f}")
    differences = np.subtract(found[CROSS_VIEW], found[ALONE])
    mean, half = interval(differences)
    better = int((differences > 0).sum())
    print(f"difference {mean:+.2f} ± {half:.2f}, better with {better} of {args.seeds} seeds")


if __name__ == "__main__":
    run()
