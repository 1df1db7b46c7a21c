"""A training step of this project beside its peers, measured in one run.

    python benchmarks/train_step.py [--shape decoder|t5|t5_1_1|bert|all] [--peers ...] [--json]
    python benchmarks/train_step.py --shape 350m --dtype bfloat16      # on a GPU; also 1.3b

Every contender is a process of its own, so that its threads and its peak memory are its own.
All are started and warmed up, then take turns, one step each, until each has had `--rounds`;
whoever is not on turn is stopped (SIGSTOP). What is printed are medians. One more process
measures the float32 matrix product in every round; the best round is the peak. On a GPU, whose
memory they could not share, the contenders run one after the other.

The step is the whole of it: forward, backward and AdamW on a batch that is already there, with
the loss read back. Model FLOPs are those of this project's `step_flops`: matrix products only,
attention in full although half of it is masked, backward as twice forward, nothing recomputed;
so a contender that skips or repeats work is measured against the same number. `first` is the
time of the first step beyond that of a later one: tracing and compilation.

BERT restores 19 hidden tokens of each row of 128; ours has logits at 20 places of a row, and model
FLOPs are those of these places, where `transformers` has logits at all 128.
"""

import argparse
import dataclasses
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model and a batch.

    Attributes:
      family: `gpt2`, `t5` (ReLU, tied output), `t5_1_1` (GEGLU, output of its own) or `bert`.
      layers: of the decoder, and of the encoder if there is one; of BERT's encoder.
      embed: d_model.
      heads: attention heads, which divide `embed` among them.
      mlp: hidden units; of each of the two halves in T5 1.1.
      batch: rows.
      targets: length of the decoder's rows, or of BERT's.
      inputs: length of the encoder's rows.
      vocabulary: how many tokens.
    """

    family: str
    layers: int
    embed: int
    heads: int
    mlp: int
    batch: int
    targets: int
    inputs: int = 0
    vocabulary: int = 8192


SHAPES = {
    "decoder": Shape("gpt2", 8, 512, 8, 2048, batch=8, targets=512),
    "t5": Shape("t5", 6, 512, 8, 2048, batch=16, targets=128, inputs=256),
    "t5_1_1": Shape("t5_1_1", 6, 512, 8, 1024, batch=16, targets=128, inputs=256),
    # BERT base (Devlin et al. 2019) with a third of its layers.
    "bert": Shape("bert", 4, 768, 12, 3072, batch=16, targets=128, vocabulary=30522),
    # GPT-3's Medium and XL (Brown et al. 2020, table 2.1), with 16 heads in both.
    "350m": Shape("gpt2", 24, 1024, 16, 4096, batch=16, targets=1024, vocabulary=50304),
    "1.3b": Shape("gpt2", 24, 2048, 16, 8192, batch=8, targets=2048, vocabulary=50304),
}
ON_CPU = ("decoder", "t5", "t5_1_1", "bert")
OURS = "t5x-like"
PEERS = {
    "compile": "transformers torch.compile",
    "eager": "transformers eager",
    "flax": "minimal Flax loop",
    "unguarded": "t5x-like, no anomaly guard",
}
DEFAULT_PEERS = ("compile", "eager", "flax")
# The minimal loop has no encoder of this kind.
WITHOUT_BERT = ("flax",)


class Contender:
    """A process that does what a line on its standard input says; see `contenders.py`."""

    def __init__(self, kind: str, shape: Shape, dtype: str):
        self.kind = kind
        task = json.dumps({"kind": kind, "shape": dataclasses.asdict(shape), "dtype": dtype})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", task],
            cwd=ROOT,
            # A compilation cache or a preallocated GPU would falsify what is measured.
            env={
                "JAX_ENABLE_COMPILATION_CACHE": "false",
                "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                **os.environ,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # torch.compile's helpers stop and go with it
        )
        self.facts = self.answer()

    def answer(self) -> dict[str, Any]:
        """What the process writes next."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.kind} ended before it answered; its messages are above.")
        return json.loads(line)

    def ask(self, question: str) -> dict[str, Any]:
        """Wakes the process, asks, and stops it again."""
        os.killpg(self.process.pid, signal.SIGCONT)
        print(question, file=self.process.stdin, flush=True)
        answer = self.answer()
        os.killpg(self.process.pid, signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """Ends the process and its helpers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def race(kinds: list[str], shape: Shape, dtype: str, rounds: int) -> dict[str, Any]:
    """Rounds in which every contender, and the matrix product, has its turn."""
    contenders: list[Contender] = []
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = []
    try:
        for kind in ["peak", *kinds]:
            contenders.append(Contender(kind, shape, dtype))
            os.killpg(contenders[-1].process.pid, signal.SIGSTOP)
        for _ in range(rounds):
            peaks.append(contenders[0].ask("step")["flops_per_second"])
            for contender in contenders[1:]:
                seconds[contender.kind].append(contender.ask("step")["seconds"])
        return {
            "peaks": peaks,
            "device": contenders[0].facts["device"],
            "datasheet_flops_per_second": contenders[0].facts["datasheet"],
            "contenders": {
                contender.kind: {
                    **contender.facts,
                    **contender.ask("memory"),
                    "seconds": seconds[contender.kind],
                }
                for contender in contenders[1:]
            },
        }
    finally:
        for contender in contenders:
            contender.close()


def measure(name: str, shape: Shape, dtype: str, peers: list[str], rounds: int) -> dict[str, Any]:
    """One shape, from start to the table's numbers."""
    if name in ON_CPU:
        raw = race(["ours", *peers], shape, dtype, rounds)
    else:
        raw = race(["ours"], shape, dtype, rounds)
        for peer in peers:
            alone = race([peer], shape, dtype, rounds)
            raw["contenders"] |= alone["contenders"]
            raw["peaks"] += alone["peaks"]
    peak, flops = max(raw["peaks"]), raw["contenders"]["ours"]["flops"]
    tokens = shape.batch * (shape.inputs + shape.targets)
    rows = {}
    for kind, found in raw["contenders"].items():
        step = statistics.median(found["seconds"])
        rows[kind] = {
            "step_seconds": step,
            "step_seconds_all": found["seconds"],
            "tokens_per_second": tokens / step,
            "share_of_peak": flops / step / peak,
            "first_seconds": max(found["first_seconds"] - step, 0.0),
            "peak_memory_bytes": found["peak_memory_bytes"],
            "parameters": found["parameters"],
            "version": found["version"],
        }
        if raw["datasheet_flops_per_second"]:
            rows[kind]["mfu"] = flops / step / raw["datasheet_flops_per_second"]
    ours = rows["ours"]["step_seconds"]
    return {
        "shape": {"name": name, **dataclasses.asdict(shape)},
        "dtype": dtype,
        "device": raw["device"],
        "host": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "model_flops": flops,
        "peak_flops_per_second": peak,
        "peak_flops_per_second_all": raw["peaks"],
        "contenders": rows,
        "ratios": {peer: rows[peer]["step_seconds"] / ours for peer in peers},
    }


def table(result: dict[str, Any]) -> str:
    """What a person reads."""
    shape, dtype = result["shape"], result["dtype"]
    encoder = f"{shape['inputs']} in, " if shape["inputs"] else ""
    lines = [
        f"{shape['name']}: {shape['family']}, {shape['layers']} layers, d {shape['embed']}, "
        f"mlp {shape['mlp']}, vocabulary {shape['vocabulary']:,}, batch {shape['batch']}, "
        f"{encoder}{shape['targets']} out, {dtype}, AdamW",
        f"{result['model_flops'] / 1e9:,.0f} GFLOP a step; matrix product "
        f"{result['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s on {result['device']} "
        f"({result['host']})",
        f"{'':28s}{'step s':>8s}{'tokens/s':>10s}{'of peak':>9s}{'MFU':>7s}{'first s':>9s}"
        f"{'memory':>9s}{'params':>9s}{'x slower':>10s}",
    ]
    ours = result["contenders"]["ours"]["step_seconds"]
    for kind, row in result["contenders"].items():
        mfu = f"{row['mfu']:7.3f}" if "mfu" in row else f"{'':7s}"
        lines.append(
            f"{PEERS.get(kind, OURS):28s}{row['step_seconds']:8.3f}"
            f"{row['tokens_per_second']:10,.0f}{row['share_of_peak']:9.3f}{mfu}"
            f"{row['first_seconds']:9.1f}{row['peak_memory_bytes'] / 2**30:6.2f} GB"
            f"{row['parameters'] / 1e6:8.1f}M{row['step_seconds'] / ours:10.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all", help="all: on a CPU")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=DEFAULT_PEERS)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--vocabulary", type=int, help="instead of the shape's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no contender stays behind
    results = []
    for name in ON_CPU if arguments.shape == "all" else [arguments.shape]:
        shape = SHAPES[name]
        if arguments.vocabulary:
            shape = dataclasses.replace(shape, vocabulary=arguments.vocabulary)
        without = WITHOUT_BERT if shape.family == "bert" else ()
        peers = [peer for peer in arguments.peers if peer not in without]
        results.append(measure(name, shape, arguments.dtype, peers, arguments.rounds))
        if not arguments.json:
            print(table(results[-1]), flush=True)
    if arguments.json:
        print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
