"""Switch Transformer (Fedus et al. 2021): T5 with experts in the place of every second MLP.

Its own ways: a token meets one expert, chosen by a router in float32 (section 2.1); experts
have a capacity, and what exceeds it passes by in the residual stream (section 2.2); initial
matrices are a tenth of the variance (section 2.4). With two experts a token it is the paper's
baseline, MoE (Lepikhin et al. 2020).
"""

import functools
import math
from typing import ClassVar

import jax
from flax import linen as nn

from models.errors import ModelError
from models.layers.block import ModuleFactory
from models.layers.dropout import Dropout
from models.layers.experts.dispatch import Capacity, Dispatch
from models.layers.experts.moe import (
    GSHARD,
    SWITCH,
    Experts,
    GatedExperts,
    MixtureOfExperts,
    Router,
    TopK,
)
from models.layers.linear import Initializer
from models.layers.mlps import MLP, Activation
from models.t5 import T5_1_1

# Section 2.4: the scale s of the initial values, a tenth of the usual.
INITIAL_SCALE = 0.1


class Switch(T5_1_1):
    """Switch: the last of every `expert_every` layers has experts.

    Attributes:
      num_experts: in each layer that has them.
      experts: `GatedExperts`, or `Experts` beside `mlp=MLP`; of `mlp_dim` hidden units each.
      expert_every: 2 is every second layer, 1 every layer.
      choose: `TopK`: how many experts a token meets.
      dispatch: `Capacity` or `Dropless`.
      expert_dropout_rate: on the experts' hidden layers; None is `dropout_rate`. The paper
        fine-tunes with 0.4 here and 0.1 elsewhere (table 4).
      router_jitter: see `layers.experts.moe.Router`.
      load_balance: see `layers.experts.moe.MixtureOfExperts`.
      router_z_loss: see `layers.experts.moe.MixtureOfExperts`.
    """

    # Experts have room for so many tokens of the rows that are computed together.
    mixes_rows: ClassVar[bool] = True

    num_experts: int = 8
    experts: type[Experts] = GatedExperts
    expert_every: int = 2
    choose: TopK = SWITCH
    dispatch: Dispatch = Capacity()
    expert_dropout_rate: float | None = None
    router_jitter: float = 0.01
    load_balance: float = 0.01
    router_z_loss: float = 0.0

    def mlps_in_turn(self, mlp: ModuleFactory, num_layers: int) -> tuple[ModuleFactory, ...]:
        """MLPs, and experts in the last layer of each group.

        Raises:
          ModelError: the periods do not divide the layers, or there are too few experts.
        """
        if num_layers % self.expert_every:
            raise ModelError(
                f"expert_every {self.expert_every} does not divide the {num_layers} layers of a "
                f"side: choose a divisor of {num_layers}."
            )
        if self.choose.k > self.num_experts:
            raise ModelError(
                f"a token meets {self.choose.k} of num_experts {self.num_experts}: there must "
                "be at least as many."
            )
        return (mlp,) * (self.expert_every - 1) + (self._mixture(),)

    def _mixture(self) -> ModuleFactory:
        rate = self.dropout_rate if self.expert_dropout_rate is None else self.expert_dropout_rate
        init, output_init = self.matrix_init(self.embed_dim), self.matrix_init(self.mlp_dim)
        router = functools.partial(Router, self.num_experts, init, self.choose, self.router_jitter)
        experts = functools.partial(
            self.experts,
            self.num_experts,
            self.mlp_dim,
            self.activation,
            init,
            output_init,
            # Rows of one expert come from many texts: no draw is shared among them.
            dropout=Dropout(rate),
            dtype=self.dtype,
        )
        return functools.partial(
            MixtureOfExperts,
            router,
            experts,
            self.dispatch,
            self.load_balance,
            self.router_z_loss,
        )

    def matrix_init(self, fan_in: int) -> Initializer:
        """N(0, 0.1 / fan_in), drawn again beyond two standard deviations (section 2.4)."""
        return nn.initializers.truncated_normal(math.sqrt(INITIAL_SCALE / fan_in))

    @nn.nowrap
    def active_parameter_count(self) -> int:
        """How many parameters one token meets: all but those of the experts not chosen."""
        boxes = jax.tree.leaves(
            self.abstract_params(), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
        )
        in_experts = sum(math.prod(x.value.shape) for x in boxes if "expert" in x.names)
        idle = in_experts // self.num_experts * (self.num_experts - self.choose.k)
        return self.parameter_count() - idle


class SwitchC(Switch):
    """Switch-C: plain MLPs, and experts in every layer (table 9)."""

    mlp: type[MLP] = MLP
    experts: type[Experts] = Experts
    activation: Activation = nn.relu
    expert_every: int = 1


class MoE(Switch):
    """The paper's baseline: a token meets two experts (section 2; Lepikhin et al. 2020)."""

    choose: TopK = GSHARD
