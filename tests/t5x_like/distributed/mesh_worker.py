"""Five training steps on meshes of 8 simulated devices, in a process of its own.

    python -m tests.t5x_like.distributed.mesh_worker '[["t5", "fsdp", [4, 2]], ...]'

prints a line of JSON for each case: the largest relative differences from one device.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import functools

import jax
import numpy as np

from models.layers.experts.dispatch import Capacity
from models.llama import LLaMA
from models.palm import PaLM
from models.switch import Switch
from models.t5 import T5_1_1
from t5x_like import optimizers, schedules
from t5x_like.partitioning import Partitioner
from t5x_like.training import state as train_state
from t5x_like.training.step import make_train_step

ROWS, LENGTH, VOCABULARY, STEPS = 16, 16, 64, 5

ENCODER_DECODER = dict(
    vocab_size=VOCABULARY, embed_dim=32, mlp_dim=64, num_heads=8, head_dim=4, num_buckets=8,
    num_encoder_layers=2, num_decoder_layers=2, max_distance=9,
)  # fmt: skip
MODELS = {
    "t5": lambda: T5_1_1(**ENCODER_DECODER),
    "palm": lambda: PaLM(
        vocab_size=VOCABULARY, embed_dim=32, num_heads=8, head_dim=4, num_layers=2, logit_chunks=4
    ),
    # Two heads of keys for a `tensor` of 4, and a vocabulary that nothing divides.
    "llama": lambda: LLaMA(
        vocab_size=VOCABULARY + 3,
        embed_dim=32,
        num_heads=8,
        num_kv_heads=2,
        num_layers=2,
        mlp_dim=64,
        logit_chunks=4,
    ),
    # Room for every token, so that none is dropped whatever the others do.
    "switch": lambda: Switch(**ENCODER_DECODER, num_experts=8, dispatch=Capacity(8.0, 8.0)),
}
# The axes that the sizes of a mesh are given to.
AXES = {
    "data_parallel": ("data", "fsdp", "expert"),
    "fsdp": ("data", "fsdp", "expert"),
    "tensor_parallel": ("data", "tensor", "fsdp"),
    "fsdp_tensor": ("fsdp", "tensor", "data"),
    "expert_parallel": ("data", "expert", "tensor"),
    "sequence_parallel": ("data", "sequence", "tensor"),
    "context_parallel": ("fsdp", "sequence", "tensor"),
    "standard": ("data", "tensor", "fsdp"),
}


def partitioner(rules: str, sizes: list[int]) -> Partitioner:
    """The mesh of these sizes, with everything divided that can be."""
    named = dict(zip(AXES[rules], sizes, strict=False))
    return Partitioner(
        **({"data": 1} | named), rules=rules, replicate_below=0, replicate_kv_heads=True
    )


def batch(step: int) -> dict[str, np.ndarray]:
    """Random tokens, packed in two segments, with padding at the end."""
    rng = np.random.default_rng(step)
    segments = np.repeat([[1] * 9 + [2] * 5 + [0] * 2], ROWS, axis=0).astype(np.int32)
    positions = np.repeat([[*range(9), *range(5), 0, 0]], ROWS, axis=0).astype(np.int32)
    tokens = rng.integers(1, VOCABULARY, (3, ROWS, LENGTH)).astype(np.int32) * (segments != 0)
    features = dict(
        zip(
            ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens"),
            tokens,
            strict=True,
        )
    )
    for side in ("encoder", "decoder"):
        features |= {f"{side}_segment_ids": segments, f"{side}_positions": positions}
    return features


def train(model, placed: Partitioner):
    """Losses, gradient norms, final parameters."""
    optimizer = optimizers.adafactor(schedules.Constant(0.01))
    step = make_train_step(model, optimizer, placed)
    state = train_state.create_state(model, optimizer, placed, seed=0)
    curves = []
    for i in range(STEPS):
        state, metrics = step(state, placed.shard_batch(batch(i)))
        curves.append([float(metrics[k][0] / metrics[k][1]) for k in ("loss", "gradient_norm")])
    return np.array(curves), jax.device_get(state.params)


@functools.cache
def on_one_device(name: str):
    """What all meshes are compared with."""
    return train(MODELS[name](), Partitioner(data=1, devices=tuple(jax.devices()[:1])))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, in units of the largest value."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9))


def main() -> None:
    """Runs the cases."""
    for name, rules, sizes in json.loads(sys.argv[1]):
        curves, params = train(MODELS[name](), partitioner(rules, sizes))
        wanted_curves, wanted = on_one_device(name)
        differences = jax.tree.map(relative, params, wanted)
        report = {
            "case": [name, rules, sizes],
            "losses": relative(curves[:, 0], wanted_curves[:, 0]),
            "gradient_norms": relative(curves[:, 1], wanted_curves[:, 1]),
            "params": max(jax.tree.leaves(differences)),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
