"""Memory of what is computed in pieces beside the same computed at once.

    python -m benchmarks.memory [--json]

Cross-entropy over a vocabulary of 256,000, with its gradients, in chunks and at once; attention
with its gradients over rows of 8,192, in blocks and with the whole matrix of scores; a training
step of BigBird base on a row of 1,024 to 8,192 tokens, which is compiled and not run. Bytes are
those that the compiled program holds beside its arguments and results (XLA's memory analysis);
seconds are the median of several runs, taking turns in this process.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models import losses
from models.bigbird import BigBird
from models.layers.attention import softmax_attention
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues

Case = tuple[Callable[..., Any], list[jax.Array]]


def cross_entropy(rows: int = 8, length: int = 256, embed: int = 512, vocab: int = 256_000):
    """Loss and gradients of the output layer, by number of chunks."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (rows, length, embed))
    kernel = jax.random.normal(keys[1], (embed, vocab)) * 0.02
    targets = jax.random.randint(keys[2], (rows, length), 1, vocab)
    weights = jnp.ones_like(targets)

    def loss(x: jax.Array, kernel: jax.Array, chunks: int) -> jax.Array:
        return losses.output_cross_entropy(
            x, kernel, targets, weights, z_loss=1e-4, num_chunks=chunks
        )[0]

    return {
        name: (
            jax.value_and_grad(functools.partial(loss, chunks=chunks), argnums=(0, 1)),
            [x, kernel],
        )
        for name, chunks in (("at once", 1), ("4 chunks", 4), ("16 chunks", 16))
    }


def attention(rows: int = 1, heads: int = 4, length: int = 8192, units: int = 64):
    """Causal attention and its gradients, in our blocks and as the formula stands."""
    keys = jax.random.split(jax.random.key(0), 3)
    arrays = [jax.random.normal(key, (rows, heads, length, units)) for key in keys]
    mask = Mask(causal=True)

    def blocks(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return softmax_attention.attend(q * units**-0.5, KeysValues(k, v), mask)

    def formula(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        scores = jnp.einsum("bhtd,bhsd->bhts", q * units**-0.5, k)
        scores = jnp.where(mask.dense((0, length), (0, length)), scores, -1e30)
        return jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), v)

    def gradients(function: Callable[..., jax.Array]) -> Callable[..., Any]:
        return jax.grad(lambda *args: function(*args).sum(), argnums=(0, 1, 2))

    return {"whole matrix": (gradients(formula), arrays), "in blocks": (gradients(blocks), arrays)}


def measure(cases: dict[str, Case], rounds: int) -> dict[str, dict[str, float]]:
    """Bytes and seconds of each case."""
    programs = {name: jax.jit(f).lower(*args).compile() for name, (f, args) in cases.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(rounds + 1):
        for name, (_, args) in cases.items():
            start = time.perf_counter()
            jax.block_until_ready(programs[name](*args))
            if round_:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
            "seconds": statistics.median(seconds[name]),
        }
        for name, program in programs.items()
    }


def bigbird_steps(
    lengths: tuple[int, ...] = (1024, 2048, 4096, 8192), **fields: Any
) -> dict[str, dict[str, float]]:
    """Bytes of a compiled step of BigBird, loss and gradients, by the length of its one row.

    Args:
      lengths: tokens of the row.
      **fields: of the model, where it is not base.
    """
    found = {}
    for length in lengths:
        sizes = {"max_length": max(lengths), "logit_chunks": 8, "dropout_rate": 0.1} | fields
        model = BigBird(**sizes)
        params = jax.eval_shape(model.init, jax.random.key(0))["params"]
        whole = jax.ShapeDtypeStruct((1, length), jnp.int32)
        one = jax.ShapeDtypeStruct((1,), jnp.int32)
        names = ("input_tokens", "target_tokens", "loss_weights", "token_types")
        batch = {f"encoder_{name}": whole for name in names}
        batch |= {"pair_label": one, "pair_weight": one}
        batch |= dict.fromkeys(model.input_features, whole)

        def loss(params: Any, batch: Any, key: jax.Array, model: BigBird = model) -> jax.Array:
            return sum(model.loss(params, batch, key)[0].values())

        lowered = jax.jit(jax.value_and_grad(loss)).lower(params, batch, jax.random.key(0))
        bytes_ = lowered.compile().memory_analysis().temp_size_in_bytes
        found[f"{length:,} tokens"] = {"temporary_bytes": bytes_, "a_token": bytes_ / length}
    return found


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = {
        "cross-entropy, 2,048 tokens, vocabulary 256,000": measure(cross_entropy(), options.rounds),
        "attention, 4 heads, rows of 8,192": measure(attention(), options.rounds),
    }
    steps = bigbird_steps()
    if options.json:
        print(json.dumps({**report, "bigbird": steps}))
        return
    for title, rows in report.items():
        first = next(iter(rows.values()))
        print(title)
        for name, row in rows.items():
            print(
                f"  {name:14} {row['temporary_bytes'] / 2**20:9.1f} MiB "
                f"({first['temporary_bytes'] / row['temporary_bytes']:.1f} x less)  "
                f"{row['seconds']:.3f} s"
            )
    print("BigBird base, a training step on one row")
    for name, row in steps.items():
        print(
            f"  {name:14} {row['temporary_bytes'] / 2**20:9.1f} MiB "
            f"({row['a_token'] / 2**10:.0f} KiB a token)"
        )


if __name__ == "__main__":
    main()
