"""Greedy decoding of this project beside `transformers`' `generate`, in one run.

    python benchmarks/decode.py [--model gpt2|t5_1_1|all] [--rounds 5] [--json]

Both have the same random weights: `transformers` writes them, `models.hf` reads them. Batch 8,
prompts of 64 tokens, 128 new tokens; no token ends a row, so that both do all the work. The two
take turns within one process, on the same cores; what is printed are medians of whole calls,
the reading of the prompts included. Compilation and the layout of the parameters for decoding
are done once before, as loading is.

The rows' tokens are compared: the float32 results of two libraries differ in the last digits, so
a row may part at a near-tie, after which it is another text. `parted` counts such rows and
`gap` is the largest difference of the two candidates' log-probabilities where they part.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from models.hf import load_hf
from t5x_like.decoding import Greedy, generate_batch, prepare, prompts_of
from t5x_like.decoding.scoring import score

BATCH, PROMPT, NEW = 8, 64, 128
VOCABULARY = 8192
MODELS = ("gpt2", "t5_1_1")
Decode = Callable[[], np.ndarray]
"""One call of all the work; gives the new tokens, int32 `[BATCH, NEW]`."""


def peer_model(name: str) -> Any:
    """A `transformers` model with random weights: 8 decoder layers, or 6 and 6 of T5 1.1."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    if name == "gpt2":
        config = GPT2Config(
            vocab_size=VOCABULARY, n_embd=512, n_layer=8, n_head=8, n_inner=2048, **ends
        )
        model = GPT2LMHeadModel(config)
    else:
        config = T5Config(
            vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=1024, num_heads=8,
            num_layers=6, num_decoder_layers=6, feed_forward_proj="gated-gelu",
            scale_decoder_outputs=False, decoder_start_token_id=0, **ends,
        )  # fmt: skip
        model = T5ForConditionalGeneration(config)
    return model.eval()


def transformers_decode(model: Any, prompts: np.ndarray) -> Decode:
    """`generate` with its cache, without an end token."""
    import torch

    # An end token would have to be forbidden step by step, which costs `generate` time.
    model.generation_config.eos_token_id = None
    ids = torch.from_numpy(prompts).long()
    mask = torch.ones_like(ids)

    def decode() -> np.ndarray:
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, use_cache=True
            )
        return found[:, -NEW:].numpy().astype(np.int32)

    return decode


def our_decode(model: Any, params: Any, prompts: np.ndarray) -> Decode:
    """`generate_batch` with `Greedy`, without an end token."""
    decoding_params = jax.block_until_ready(prepare(model, params))
    batch = prompts_of(model).decoding_batch(prompts.tolist(), bos_id=None)
    rows, limits = np.arange(BATCH, dtype=np.int32), np.full((BATCH,), NEW, np.int32)

    def decode() -> np.ndarray:
        return np.asarray(
            generate_batch(
                model, params, decoding_params, batch, rows, limits,
                strategy=Greedy(), max_new_tokens=NEW, eos_id=None,
            ).tokens_bn
        )  # fmt: skip

    return decode


def agreement(
    model: Any, params: Any, prompts: np.ndarray, ours: np.ndarray, theirs: np.ndarray
) -> dict[str, Any]:
    """How many rows part, and how near to a tie they were when they did."""
    parted, gap = 0, 0.0
    for prompt, mine, other in zip(prompts.tolist(), ours.tolist(), theirs.tolist(), strict=True):
        if mine == other:
            continue
        parted += 1
        first = next(i for i in range(NEW) if mine[i] != other[i])
        candidates = score(
            model, params, inputs=[prompt] * 2,
            targets=[mine[: first + 1], other[: first + 1]],
            bos_id=0 if model.batch_format == "encoder_decoder" else None,
        )  # fmt: skip
        gap = max(gap, float(abs(candidates[0].tokens[-1] - candidates[1].tokens[-1])))
    return {"parted": parted, "gap": gap, "distinct_tokens": len(np.unique(ours))}


def seconds(decode: Decode) -> float:
    start = time.perf_counter()
    decode()
    return time.perf_counter() - start


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Medians of `rounds` calls of each, in turns."""
    peer = peer_model(name)
    with tempfile.TemporaryDirectory() as directory:
        peer.save_pretrained(directory)
        model, params = load_hf(directory)
    params = jax.device_put(params)
    prompts = np.random.default_rng(0).integers(2, VOCABULARY, (BATCH, PROMPT), np.int32)
    theirs, ours = transformers_decode(peer, prompts), our_decode(model, params, prompts)
    first = seconds(ours)
    same = agreement(model, params, prompts, ours(), theirs())
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    tokens = BATCH * NEW
    our_rates, their_rates = ([tokens / t for t in column] for column in zip(*times, strict=True))
    return {
        "model": name,
        "parameters": model.parameter_count(),
        "ours": statistics.median(our_rates),
        "ours_range": [min(our_rates), max(our_rates)],
        "transformers": statistics.median(their_rates),
        "transformers_range": [min(their_rates), max(their_rates)],
        "ratio": statistics.median(t / o for o, t in times),
        "first_call_seconds": first,
        **same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    options = parser.parse_args()
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results = [
        measure(name, options.rounds)
        for name in (MODELS if options.model == "all" else [options.model])
    ]
    about = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "batch": BATCH,
        "prompt_tokens": PROMPT,
        "new_tokens": NEW,
    }
    if options.json:
        print(json.dumps({**about, "results": results}))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for one in results:
        low, high = one["ours_range"]
        print(
            f"{one['model']:<8} ours {one['ours']:,.0f} new tokens/s ({low:,.0f} to {high:,.0f}), "
            f"transformers {one['transformers']:,.0f}, ratio {one['ratio']:.2f}; "
            f"first call {one['first_call_seconds']:.1f} s; {one['parted']} of {BATCH} rows part"
            + (f" (gap {one['gap']:.1e})" if one["parted"] else "")
            + f", {one['distinct_tokens']} distinct tokens"
        )


if __name__ == "__main__":
    main()
