"""Losses and metrics that layers add to the model's own, such as load balancing.

A layer *reports*; the model *collects* what all layers reported, through scans and
rematerialization. Without the collection (logits, decoding) reports go nowhere.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

# The Linen collection of the reports.
AUXILIARY = "auxiliary"

_LOSSES, _METRICS = "losses", "metrics"


def report(
    module: nn.Module,
    losses: Mapping[str, jax.Array],
    metrics: Mapping[str, tuple[jax.Array, jax.Array]],
) -> None:
    """Adds to what is collected.

    Args:
      module: the layer.
      losses: name to a float32 scalar, a mean over tokens, that is to be minimized with the
        mean loss of the targets.
      metrics: name to (sum, weight), float32 scalars.
    """
    module.sow(AUXILIARY, _LOSSES, dict(losses))
    module.sow(AUXILIARY, _METRICS, {name: tuple(pair) for name, pair in metrics.items()})


def collect(
    variables: Mapping[str, Any],
) -> tuple[dict[str, jax.Array], dict[str, tuple[jax.Array, jax.Array]]]:
    """All layers' reports as one: losses and metrics, each summed over the layers.

    Args:
      variables: what `apply` gives back with `mutable=[AUXILIARY]`.
    """
    losses: dict[str, jax.Array] = {}
    metrics: dict[str, tuple[jax.Array, jax.Array]] = {}

    def visit(tree: Mapping[str, Any]) -> None:
        for key, node in tree.items():
            if isinstance(node, Mapping):
                visit(node)
                continue
            for reported in node:
                for name, value in reported.items():
                    # A scanned layer's values are stacked.
                    value = jax.tree.map(jnp.sum, value)
                    total = losses if key == _LOSSES else metrics
                    total[name] = (
                        jax.tree.map(jnp.add, total[name], value) if name in total else value
                    )

    visit(variables.get(AUXILIARY, {}))
    return losses, metrics
