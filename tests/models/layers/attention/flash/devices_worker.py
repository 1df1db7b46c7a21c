"""Our flash attention divided over 8 simulated devices, in a process of its own.

Prints the largest difference of the result and of each gradient from those of one device.
"""

import os

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.layers.attention.distances import DistanceBias
from models.layers.attention.flash.attend import attend
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues
from models.layers.dropout import Dropout

B, H, T, D = 4, 4, 40, 8


def loss(q, k, v, table):
    texts = jnp.arange(T)[None] // 25 * jnp.ones((B, 1), jnp.int32)
    mask = Mask(causal=True, query_segments_bt=texts, key_segments_bs=texts)
    key = jax.random.key(3)
    bias = DistanceBias(table[None], T)
    y = attend(q, KeysValues(k, v), mask, bias, Dropout(0.2), key, interpret=True)
    return (y * jnp.cos(jnp.arange(D))).sum(), y


def main() -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    args = [jax.random.normal(key, (B, H, T, D)) for key in keys[:3]]
    args.append(jax.random.normal(keys[3], (H, 2 * T - 1)))
    function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
    alone = function(*args)
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh), nn.logical_axis_rules((("batch", "data"), ("heads", "tensor"))):
        divided = function(*args)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(divided), strict=True):
        print(float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(a)).max()))


main()
