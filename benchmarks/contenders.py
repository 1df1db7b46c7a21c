"""The processes that `train_step.py` measures: each builds one training step and repeats it.

    python -m benchmarks.contenders '{"kind": ..., "shape": {...}, "dtype": ...}'

Once warmed up, it writes one line of JSON about itself, and then one for each line it reads:
`step` is answered by the seconds of one more step, `memory` by the peak of the process.
"""

import ctypes
import json
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Shape = Mapping[str, Any]
Step = Callable[[], float]
"""One training step; gives the loss, so that it is over when it returns."""

# Of a row of 128 tokens, in the released code of BERT.
MOST_HIDDEN = 20
# Steps before the first that counts; the first ones still fault in memory.
WARM_UP = 2


def random_tokens(shape: Shape) -> dict[str, Any]:
    """Inputs and targets, NumPy int32, none of them padding."""
    import numpy as np

    generator = np.random.default_rng(0)
    rows, vocabulary = shape["batch"], shape["vocabulary"]
    if shape["family"] == "bert":
        size = (rows, shape["targets"])
        tokens, hidden = (generator.integers(1, vocabulary, size, np.int32) for _ in range(2))
        # As many places of each row as BERT hides: 15% of them, rounded.
        places = generator.random(size).argsort(axis=1) < round(0.15 * shape["targets"])
        return {
            "encoder_input_tokens": np.where(places, hidden, tokens),
            "encoder_target_tokens": tokens,
            "encoder_loss_weights": places.astype(np.int32),
        }
    tokens = generator.integers(1, vocabulary, (rows, shape["targets"] + 1), np.int32)
    batch = {"decoder_input_tokens": tokens[:, :-1], "decoder_target_tokens": tokens[:, 1:]}
    if shape["inputs"]:
        size = (rows, shape["inputs"])
        batch["encoder_input_tokens"] = generator.integers(1, vocabulary, size, np.int32)
    return batch


def ours(shape: Shape, dtype: str, *, guarded: bool = True) -> tuple[Step, dict[str, Any]]:
    """This project's step as `t5x_like.train` makes it: clipping, metrics and guard included."""
    from t5x_like import anomalies, optimizers, partitioning, schedules
    from t5x_like.host import memory
    from t5x_like.training import state as train_state
    from t5x_like.training import step as train_step

    memory.keep_freed_memory()
    import jax
    import numpy as np

    from models import bert, gpt, t5

    common = {"vocab_size": shape["vocabulary"], "dtype": dtype, "num_heads": shape["heads"]}
    common |= {"embed_dim": shape["embed"], "mlp_dim": shape["mlp"]}
    if shape["family"] == "gpt2":
        model = gpt.GPT2(**common, num_layers=shape["layers"], max_length=shape["targets"])
    elif shape["family"] == "bert":
        model = bert.BERT(
            **common,
            num_layers=shape["layers"],
            use_pooler=False,
            use_next_sentence_head=False,
            masked_places=MOST_HIDDEN,
        )
    else:
        family = t5.T5 if shape["family"] == "t5" else t5.T5_1_1
        model = family(
            **common,
            head_dim=shape["embed"] // shape["heads"],
            num_encoder_layers=shape["layers"],
            num_decoder_layers=shape["layers"],
        )
    batch = random_tokens(shape)
    if "decoder_target_tokens" in batch:
        batch["decoder_loss_weights"] = np.ones_like(batch["decoder_target_tokens"])
    partitioner = partitioning.Partitioner()
    optimizer = optimizers.adamw(schedules.Constant(1e-4))
    policy = anomalies.AnomalyPolicy() if guarded else None
    state = train_state.create_state(model, optimizer, partitioner, seed=0)
    if policy is not None:
        state = state.replace(guard=jax.device_put(policy.guard(), partitioner.replicated))
    take = train_step.make_train_step(model, optimizer, partitioner, anomaly_policy=policy)
    placed = partitioner.shard_batch(batch)

    def step() -> float:
        nonlocal state
        state, metrics = take(state, placed)
        total, weight = jax.device_get(metrics["loss"])
        return float(total / weight)

    return step, {
        "flops": model.step_flops({name: value.shape for name, value in batch.items()}),
        "parameters": model.parameter_count(),
        "version": f"jax {jax.__version__}",
    }


def flax(shape: Shape, dtype: str) -> tuple[Step, dict[str, Any]]:
    """A Linen model as a tutorial would write it, optax, and a jitted function."""
    import jax
    import optax

    from benchmarks import minimal_flax

    batch = random_tokens(shape)
    model = minimal_flax.build(shape, dtype)
    names = ("decoder_input_tokens", "decoder_target_tokens", "encoder_input_tokens")
    tokens = jax.device_put([batch[name] for name in names if name in batch])
    params = jax.jit(model.init)(jax.random.key(0), *tokens)
    optimizer = optax.adamw(1e-4)
    state = (params, optimizer.init(params))

    def update(state: Any, tokens: Any) -> Any:
        params, moments = state
        loss, gradient = jax.value_and_grad(model.apply)(params, *tokens)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), loss

    update = jax.jit(update, donate_argnums=0)

    def step() -> float:
        nonlocal state
        state, loss = update(state, tokens)
        return float(loss)

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return step, {"parameters": parameters, "version": f"jax {jax.__version__}"}


def transformers(shape: Shape, dtype: str, compiled: bool) -> tuple[Step, dict[str, Any]]:
    """Hugging Face's model in training mode, without dropout, and torch's fused AdamW."""
    import torch
    import transformers

    common = {"vocab_size": shape["vocabulary"]}
    if shape["family"] == "gpt2":
        config = transformers.GPT2Config(
            **common,
            n_positions=shape["targets"],
            n_embd=shape["embed"],
            n_layer=shape["layers"],
            n_head=shape["heads"],
            n_inner=shape["mlp"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
        )
        model = transformers.GPT2LMHeadModel(config)
    elif shape["family"] == "bert":
        config = transformers.BertConfig(
            **common,
            hidden_size=shape["embed"],
            intermediate_size=shape["mlp"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model = transformers.BertForMaskedLM(config)
    else:
        config = transformers.T5Config(
            **common,
            d_model=shape["embed"],
            d_kv=shape["embed"] // shape["heads"],
            d_ff=shape["mlp"],
            num_layers=shape["layers"],
            num_heads=shape["heads"],
            dropout_rate=0.0,
            feed_forward_proj="relu" if shape["family"] == "t5" else "gated-gelu",
            tie_word_embeddings=shape["family"] == "t5",
            decoder_start_token_id=0,
            use_cache=False,
        )
        model = transformers.T5ForConditionalGeneration(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = {
        name: torch.from_numpy(value).long().to(device)
        for name, value in random_tokens(shape).items()
    }
    if shape["family"] == "gpt2":
        # The model shifts the labels itself: one target fewer in a row than the others have.
        features = {"input_ids": batch["decoder_input_tokens"]}
        features["labels"] = batch["decoder_input_tokens"]
    elif shape["family"] == "bert":
        features = {"input_ids": batch["encoder_input_tokens"]}
        hidden = batch["encoder_loss_weights"] != 0
        features["labels"] = torch.where(hidden, batch["encoder_target_tokens"], -100)
    else:
        features = {"input_ids": batch["encoder_input_tokens"]}
        features["labels"] = batch["decoder_target_tokens"]
    forward = torch.compile(model) if compiled else model
    low = dtype == "bfloat16"

    def step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = forward(**features).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    parameters = sum(p.numel() for p in model.parameters())
    version = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return step, {"parameters": parameters, "version": version}


def matrix_product(dtype: str) -> tuple[Callable[[], float], dict[str, Any]]:
    """FLOP/s of a large matrix product, and what the device's datasheet says."""
    import jax
    import jax.numpy as jnp

    from t5x_like.cost import peak

    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    size, repeats = (2048, 25) if on_cpu else (8192, 50)
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)

    def rate() -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            product(a, a).block_until_ready()
            seconds.append(time.perf_counter() - start)
        return 2 * size**3 / statistics.median(seconds)

    rate()
    datasheet = None if on_cpu else peak.peak([device]).flops
    return rate, {"device": device.device_kind, "datasheet": datasheet}


def peak_memory_bytes(kind: str) -> int:
    """Of the device where that is an accelerator, else of this process."""
    if kind in ("eager", "compile"):
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    else:
        import jax

        statistics_of_device = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in statistics_of_device:
            return statistics_of_device["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


BUILDERS: dict[str, Callable[[Shape, str], tuple[Step, dict[str, Any]]]] = {
    "ours": ours,
    "unguarded": lambda shape, dtype: ours(shape, dtype, guarded=False),
    "flax": flax,
    "eager": lambda shape, dtype: transformers(shape, dtype, compiled=False),
    "compile": lambda shape, dtype: transformers(shape, dtype, compiled=True),
}


def end_with_parent() -> None:
    """Asks Linux to end this process with its parent; while stopped it could not notice."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    end_with_parent()
    # Libraries write to standard output; the answers go where it led before.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task = json.loads(sys.argv[1])
    kind = task["kind"]

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    if kind == "peak":
        rate, facts = matrix_product(task["dtype"])
        answer(**facts)
        for _ in sys.stdin:
            answer(flops_per_second=rate())
        return

    step, facts = BUILDERS[kind](task["shape"], task["dtype"])

    def timed() -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    first = timed()
    for _ in range(WARM_UP):
        timed()
    answer(first_seconds=first, **facts)
    for line in sys.stdin:
        if line.strip() == "step":
            answer(seconds=timed())
        else:
            answer(peak_memory_bytes=peak_memory_bytes(kind))


if __name__ == "__main__":
    main()
