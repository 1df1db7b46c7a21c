"""What the TPU compiler makes of small programs, where it decides how a large one is written.

    python -m benchmarks.tpu_compiler reduce_scatter
    python -m benchmarks.tpu_compiler rotary

`reduce_scatter`: sums of which each device of a group keeps its part, for groups that are a whole
slice and for groups that are a part of one: whether the program scatters them as it sums, or sums
all of them on every device. `rotary`: attention of 16 rows of 2,048 tokens with 32 heads of 128,
forward and backward, with rotary positions that turn halves of a head apart, as
`models.layers.attention.positions.Rotary` does, or a whole head by rolling it: the HBM traffic.

Needs the extra [tpu-compile], and no TPU.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.layers.attention.positions import Rotary
from t5x_like.cost import hlo, topologies
from t5x_like.cost.units import gibibytes

# Topology and members of a group.
GROUPS = (
    ("v4:8x8x8", 512), ("v4:8x8x8", 256), ("v4:8x8x8", 64), ("v5p:2x4x4", 32), ("v5p:2x4x4", 16),
    ("v5e:16x16", 256), ("v5e:16x16", 128), ("v6e:16x16", 256), ("v6e:16x16", 16),
)  # fmt: skip
ROWS, TOKENS, HEADS, UNITS = 16, 2048, 32, 128


def collectives_of(topology: str, members: int) -> str:
    """What `psum_scatter` of a bfloat16 matrix over groups of so many devices becomes."""
    devices = np.array(topologies.devices_of(topology, 1)).reshape(-1, members)
    mesh = Mesh(devices, ("copies", "members"))

    def scattered(x: jax.Array) -> jax.Array:
        return jax.lax.psum_scatter(x[0], "members", scatter_dimension=0, tiled=True)

    over = PartitionSpec("members")
    program = jax.jit(
        jax.shard_map(scattered, mesh=mesh, in_specs=over, out_specs=over, check_vma=False)
    )
    sharding = NamedSharding(mesh, over)
    x = jax.ShapeDtypeStruct((members, 8192, 2048), jnp.bfloat16, sharding=sharding)
    module = hlo.parse(program.lower(x).compile().as_text())
    exchanges = hlo.collectives(module, [0] * devices.size)
    return ", ".join(f"{one.kind} of {gibibytes(int(one.bytes))}" for one in exchanges)


def rolled(x_bhtd: jax.Array) -> jax.Array:
    """`Rotary` of whole heads: each unit by the cosine, the one half a head away by the sine."""
    frequencies = np.tile(10000.0 ** (-np.arange(0, UNITS, 2) / UNITS), 2)
    signs = np.repeat([-1.0, 1.0], UNITS // 2)
    angles_td = jnp.arange(TOKENS)[:, None] * frequencies.astype(np.float32)
    x = x_bhtd.astype(jnp.float32)
    turned = x * jnp.cos(angles_td) + jnp.roll(x, UNITS // 2, axis=-1) * jnp.sin(angles_td) * signs
    return turned.astype(x_bhtd.dtype)


def halves(x_bhtd: jax.Array) -> jax.Array:
    """As the models have it."""
    return Rotary()(x_bhtd, None)


def traffic_of(turn: Callable[[jax.Array], jax.Array]) -> int:
    """Bytes of HBM of attention and its gradients on one v5e chip."""
    causal = masks.MultiHeadMask([masks.CausalMask((TOKENS, TOKENS))] * HEADS)
    attend = jax.vmap(splash.make_splash_mha(causal, head_shards=1, q_seq_shards=1))

    def loss(kernels: jax.Array, x: jax.Array) -> jax.Array:
        shape = (ROWS, TOKENS, HEADS, UNITS)
        q, k, v = ((x @ kernel).reshape(shape).swapaxes(1, 2) for kernel in kernels)
        y = attend(turn(q) * jnp.bfloat16(UNITS**-0.5), turn(k), v)
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    device = topologies.devices_of("v5e:2x2", 1)[:1]
    here = NamedSharding(Mesh(np.array(device), ("one",)), PartitionSpec())
    width = HEADS * UNITS
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=here)
        for shape in ((3, width, width), (ROWS, TOKENS, width))
    ]
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile()
    return int(hlo.bytes_accessed(hlo.parse(compiled.as_text())))


def main() -> None:
    """Prints a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("reduce_scatter", "rotary"))
    if parser.parse_args().what == "reduce_scatter":
        for topology, members in GROUPS:
            print(
                f"{topology}, groups of {members}: {collectives_of(topology, members)}", flush=True
            )
        return
    for turn in (halves, rolled):
        print(f"{turn.__name__}: {gibibytes(traffic_of(turn))}", flush=True)


if __name__ == "__main__":
    main()
