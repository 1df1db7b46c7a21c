"""Options ranked by this project beside lm-evaluation-harness's `hf` backend, on the same weights.

    python benchmarks/ranking.py [--peer_python PYTHON] [--questions 40] [--rounds 3] [--json]

PYTHON is an interpreter that has `lm_eval` (0.4.13 was measured); without one, the peer is a plain
loop over `transformers` in this interpreter, which batches, pads, cuts and takes logarithms as that
backend does, one-token options and all. Both sides tokenize the same texts and read the same
directory: a GPT-2 of 8 layers with random weights and a BPE vocabulary, which `transformers` writes
and `models.hf` reads.

Three kinds of questions, of the standard library's source: `endings` as in HellaSwag (contexts of
some 60 tokens, four endings of some 25), `few_shot` as ARC with five examples (some 400 tokens,
four short answers), and `letters` as MMLU with five (some 400 tokens, four answers of one token,
whose context the harness, too, reads once). The two take turns on the same cores; printed are
medians of whole calls. What compilation adds to this project's first call is told beside them. The
peer runs with each of several batch sizes, and its fastest counts.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KINDS = ("questions", "endings", "few_shot", "letters")
POSITIONS = 1024
BATCH_SIZES = (1, 8, 32)
Pair = tuple[str, str]
"""A context and one of its options."""
Timed = tuple[tuple[float, float], list[float]]
"""Seconds on the wall and of the processor, and log-likelihoods."""


def sources() -> list[str]:
    """Texts of the standard library, in order."""
    folder = Path(sysconfig.get_path("stdlib"))
    return [path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.py"))[:60]]


def questions(kind: str, count: int) -> list[tuple[str, list[str]]]:
    """Contexts with four options each; the same in every call."""
    draw = random.Random(f"{kind} {count}")
    words = " ".join(sources()).split()

    def text(length: int) -> str:
        begin = draw.randrange(len(words) - length)
        return " ".join(words[begin : begin + length])

    def shots(number: int) -> str:
        return "".join(f"Question: {text(16)}\nAnswer: {text(2)}\n\n" for _ in range(number))

    fixed = shots(5)
    found = []
    for _ in range(count):
        match kind:
            case "questions":
                context = text(draw.randint(15, 85))
                options = [text(draw.randint(1, 6)) for _ in range(4)]
            case "endings":
                context = text(draw.randint(15, 40))
                options = [text(draw.randint(6, 12)) for _ in range(4)]
            case "few_shot":
                context = f"{shots(5)}Question: {text(16)}\nAnswer:"
                options = [text(draw.randint(1, 4)) for _ in range(4)]
            case _:
                context = f"{fixed}Question: {text(16)}\nAnswer:"
                options = list("ABCD")
        found.append((context, options))
    return found


def pairs_of(asked: Sequence[tuple[str, list[str]]]) -> list[Pair]:
    """Each option with its context and the space between them."""
    return [(context, f" {option}") for context, options in asked for option in options]


def write_model(folder: Path, layers: int, width: int, vocabulary: int) -> None:
    """A GPT-2 with random weights, and a vocabulary of the standard library."""
    import tokenizers
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=min(vocabulary, 16384),
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sources(), trainer)
    end = "<|endoftext|>"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=POSITIONS, n_embd=width, n_layer=layers,
        n_head=width // 64, bos_token_id=0, eos_token_id=0, initializer_range=0.08,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)


# -- The peer, in a process of its own ---------------------------------------------------------


def harness(folder: str) -> Callable[[list[Pair], int], list[float]]:
    """lm-evaluation-harness's `hf` backend."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=folder, device="cpu", dtype="float32")

    def run(pairs: list[Pair], batch_size: int) -> list[float]:
        model.batch_size_per_gpu = batch_size
        asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
        return [float(total) for total, _ in model.loglikelihood(asked, disable_tqdm=True)]

    return run


def plain_loop(folder: str) -> Callable[[list[Pair], int], list[float]]:
    """What that backend does: rows from the longest on, padded at the right, one-token options of
    one context read once.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def run(pairs: list[Pair], batch_size: int) -> list[float]:
        rows: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
        for place, (context, option) in enumerate(pairs):
            whole = tokenizer.encode(context + option)
            size = len(whole) - len(tokenizer.encode(context))
            rows.setdefault(tuple(whole[-(POSITIONS + 1) : -1]), []).append(
                (place, size, whole[-1])
            )
        order = sorted(rows, key=lambda row: -len(row))
        totals = [0.0] * len(pairs)
        for begin in range(0, len(order), batch_size):
            own = order[begin : begin + batch_size]
            padded = torch.zeros(len(own), len(own[0]), dtype=torch.long)
            for i, row in enumerate(own):
                padded[i, : len(row)] = torch.tensor(row)
            with torch.no_grad():
                log_probs = torch.log_softmax(model(padded).logits, dim=-1)
            for i, row in enumerate(own):
                for place, size, last in rows[row]:
                    tokens = torch.tensor([*row[len(row) + 1 - size :], last])
                    scored = log_probs[i, len(row) - size : len(row)]
                    totals[place] = float(scored.gather(1, tokens[:, None]).sum())
        return totals

    return run


def clocks() -> tuple[float, float]:
    """On the wall, and of all of this process's threads."""
    return time.perf_counter(), time.process_time()


def since(begin: tuple[float, float]) -> tuple[float, float]:
    """Seconds on both clocks."""
    wall, processor = clocks()
    return wall - begin[0], processor - begin[1]


def serve(folder: str, kind_of_peer: str) -> None:
    """Answers each line, pairs and a batch size, by seconds and log-likelihoods."""
    run = harness(folder) if kind_of_peer == "harness" else plain_loop(folder)
    run([("a b", " c")], 1)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pairs = [(context, option) for context, option in asked["pairs"]]
        begin = clocks()
        totals = run(pairs, asked["batch_size"])
        print(json.dumps({"seconds": since(begin), "totals": totals}), flush=True)


class Peer:
    """The peer's process."""

    def __init__(self, python: str | None, folder: Path) -> None:
        kind = "harness" if python else "loop"
        self.process = subprocess.Popen(
            [python or sys.executable, __file__, "--serve", str(folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line("ready")

    def _line(self, wanted: str) -> str:
        """The next line that begins so; libraries print others."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(wanted):
                return line
        raise SystemExit("the peer ended: see its message above")

    def __call__(self, pairs: list[Pair], batch_size: int) -> Timed:
        """Seconds on both clocks, and the log-likelihood of each pair."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"pairs": pairs, "batch_size": batch_size}) + "\n")
        self.process.stdin.flush()
        found = json.loads(self._line("{"))
        return found["seconds"], found["totals"]


# -- This project --------------------------------------------------------------------------------


def ours(folder: Path) -> Callable[[Sequence[tuple[str, list[str]]]], Timed]:
    """`score_options`, without a start token, as the harness reads GPT-2's texts."""
    from models.hf import load_hf
    from t5x_like.decoding import Reading, TextCodec
    from t5x_like.decoding.options import Question, score_options
    from t5x_like.host import memory
    from tasks.task import Feature
    from tasks.tokenizer_json import TokenizerVocabulary

    memory.keep_freed_memory()  # as `t5x-like eval` does
    model, params = load_hf(str(folder))
    codec = TextCodec(None, Feature(TokenizerVocabulary(str(folder))), False)

    def run(asked: Sequence[tuple[str, list[str]]]) -> Timed:
        begin = clocks()
        found, _ = score_options(
            model,
            params,
            codec,
            [Question([context], [f" {one}" for one in options]) for context, options in asked],
            Reading(start_token=False),
        )
        totals = [float(total) for one in found for total in one.sums]
        return since(begin), totals

    return run


def compare(
    kind: str, run: Callable[..., Timed], peer: Peer, count: int, rounds: int
) -> dict[str, Any]:
    """Seconds of both, medians, and how far their log-likelihoods are apart."""
    asked = questions(kind, count)
    pairs = pairs_of(asked)
    first, totals = run(asked)
    few = pairs[: max(BATCH_SIZES)]
    trials = {size: peer(few, size)[0] for size in BATCH_SIZES}
    best = min(trials, key=lambda size: trials[size][1])
    times = []
    for _ in range(rounds):
        own = run(asked)[0]
        other, theirs = peer(pairs, best)
        times.append((*own, *other))
    wall, processor, peer_wall, peer_processor = map(statistics.median, zip(*times, strict=True))
    return {
        "kind": kind,
        "options": len(pairs),
        "seconds": wall,
        "processor_seconds": processor,
        "first_call": first,
        "peer_seconds": peer_wall,
        "peer_processor_seconds": peer_processor,
        "peer_batch_size": best,
        "ratio": peer_wall / wall,
        "processor_ratio": peer_processor / processor,
        "largest_difference": max(abs(a - b) for a, b in zip(totals, theirs, strict=True)),
    }


def main() -> None:
    """Prints a line for each kind of questions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2)
    parser.add_argument("--peer_python")
    parser.add_argument("--kind", choices=KINDS, action="append", help="repeatable; all by default")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), options.layers, options.width, options.vocabulary)
        peer, run = Peer(options.peer_python, Path(name)), ours(Path(name))
        found = [
            compare(each, run, peer, options.questions, options.rounds)
            for each in options.kind or KINDS
        ]
        peer.process.terminate()
    if options.json:
        print(json.dumps(found))
        return
    print(f"beside {'lm_eval' if options.peer_python else 'a plain loop over transformers'}:")
    for one in found:
        print(
            f"{one['kind']:9} {one['options']} options: {one['seconds']:.2f} s, of the processor "
            f"{one['processor_seconds']:.2f} (the first call {one['first_call'][0]:.1f} and "
            f"{one['first_call'][1]:.1f}); the peer in batches of {one['peer_batch_size']} "
            f"{one['peer_seconds']:.2f} and {one['peer_processor_seconds']:.2f}: "
            f"{one['ratio']:.1f} x and {one['processor_ratio']:.1f} x; log-likelihoods within "
            f"{one['largest_difference']:.1e}"
        )


if __name__ == "__main__":
    main()
