"""Mixtures of experts: many MLPs, of which each token passes through one or two.

Switch Transformer (Fedus et al. 2021, section 2) with one, GShard (Lepikhin et al. 2020) with
two. How tokens reach their experts is `dispatch`'s subject.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from models.errors import ModelError
from models.layers import auxiliary_losses, intermediates, parts
from models.layers.block import ModuleFactory
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.experts.dispatch import Capacity, Choices, Dispatch, Product
from models.layers.linear import STORED_PRODUCT, Initializer, axis_names
from models.layers.mlps import Activation


@dataclasses.dataclass(frozen=True)
class TopK:
    """A token goes to the experts of the highest probability; the lower number wins a tie.

    Attributes:
      k: how many.
      normalize: whether the gates are divided by their sum; otherwise they are the
        probabilities themselves.
    """

    k: int = 1
    normalize: bool = False

    def __post_init__(self) -> None:
        """Checks the number.

        Raises:
          ModelError: it is below 1.
        """
        if self.k < 1:
            raise ModelError(f"TopK.k is {self.k}: a token goes to 1 expert or more.")

    def __call__(self, probabilities_btx: jax.Array) -> Choices:
        """Float32 `[b, t, x]` to the choices."""
        num_experts = probabilities_btx.shape[-1]
        index_x = jnp.arange(num_experts)
        left_btx = jax.lax.stop_gradient(probabilities_btx)
        experts, gates = [], []
        # `jax.lax.top_k` would gather the probabilities of all devices on each of them.
        for _ in range(self.k):
            expert_bt = jnp.argmax(left_btx, axis=-1).astype(jnp.int32)
            chosen_btx = expert_bt[..., None] == index_x
            left_btx = jnp.where(chosen_btx, -1.0, left_btx)
            experts.append(expert_bt)
            # A masked sum and not a gather, whose gradient would be a scatter.
            gates.append(jnp.where(chosen_btx, probabilities_btx, 0).sum(-1))
        experts_btk, gates_btk = jnp.stack(experts, -1), jnp.stack(gates, -1)
        if self.normalize:
            gates_btk /= gates_btk.sum(-1, keepdims=True)
        return Choices(experts_btk, gates_btk, num_experts)


SWITCH = TopK(1)  # Fedus et al. 2021, eq. 1 and 2
GSHARD = TopK(2, normalize=True)  # Lepikhin et al. 2020, algorithm 1


@struct.dataclass
class Routing:
    """A router's output.

    Attributes:
      logits_btx: float32.
      probabilities_btx: their softmax.
      choices: which experts, and by how much.
    """

    logits_btx: jax.Array
    probabilities_btx: jax.Array
    choices: Choices


class Router(nn.Module):
    """A distribution over experts for each token, in float32 whatever the compute dtype.

    Attributes:
      num_experts: how many experts there are.
      kernel_init: initial values of the matrix.
      choose: which of them a token goes to.
      jitter: in training the input is multiplied by noise, uniform in [1 - jitter, 1 + jitter]
        (Fedus et al. 2021, appendix C).
    """

    part: ClassVar[str] = parts.ROUTER

    num_experts: int
    kernel_init: Initializer
    choose: TopK = SWITCH
    jitter: float = 0.0

    @nn.compact
    def __call__(self, x_bte: jax.Array, *, training: bool = False) -> Routing:
        """Routes `[b, t, e]`."""
        # Small, and needed whole on every device: not divided along the experts.
        kernel_ex = self.param(
            "kernel",
            axis_names(("embed", None), self.kernel_init),
            (x_bte.shape[-1], self.num_experts),
        )
        x_bte = x_bte.astype(jnp.float32)
        if training and self.jitter:
            x_bte *= jax.random.uniform(
                self.make_rng("dropout"),
                x_bte.shape,
                minval=1 - self.jitter,
                maxval=1 + self.jitter,
            )
        # Accelerators would otherwise multiply float32 in lower precision.
        logits_btx = jnp.matmul(x_bte, kernel_ex, precision=jax.lax.Precision.HIGHEST)
        logits_btx = checkpoint_name(logits_btx, STORED_PRODUCT)
        probabilities_btx = nn.softmax(logits_btx)
        return Routing(logits_btx, probabilities_btx, self.choose(probabilities_btx))


class Experts(nn.Module):
    """MLPs `W_o φ(W_i x)`, one an expert, as `mlps.MLP` is one for all.

    Attributes:
      num_experts: how many.
      hidden_dim: units of each hidden layer.
      activation: φ.
      input_init: initial values of `W_i`.
      output_init: initial values of `W_o`.
      dropout: on the hidden layers.
      dtype: of the computation; parameters are float32 `[x, e, f]` and `[x, f, e]`.
    """

    part: ClassVar[str] = parts.EXPERTS

    num_experts: int
    hidden_dim: int
    activation: Activation
    input_init: Initializer
    output_init: Initializer
    dropout: Dropout = NO_DROPOUT
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, rows: jax.Array, product: Product, *, enable_dropout: bool = False
    ) -> jax.Array:
        """Rows to rows; `product` knows which expert each of them belongs to."""
        hidden = self.activation(self._input("wi", rows, product))
        return self._output(hidden, rows.shape[-1], product, enable_dropout)

    def _input(self, name: str, rows: jax.Array, product: Product) -> jax.Array:
        kernel = ExpertKernel(
            (self.num_experts, rows.shape[-1], self.hidden_dim),
            ("expert", "embed", "mlp"),
            self.input_init,
            name=name,
        )
        return self._multiplied(rows, kernel, product)

    def _output(
        self, hidden: jax.Array, features: int, product: Product, enable_dropout: bool
    ) -> jax.Array:
        draw = enable_dropout and self.dropout.rate
        hidden = self.dropout(hidden, self.make_rng("dropout") if draw else None)
        kernel = ExpertKernel(
            (self.num_experts, self.hidden_dim, features),
            ("expert", "mlp", "embed"),
            self.output_init,
            name="wo",
        )
        return self._multiplied(hidden, kernel, product)

    def _multiplied(self, rows: jax.Array, kernel: nn.Module, product: Product) -> jax.Array:
        y = product(rows.astype(self.dtype), kernel().astype(self.dtype))
        return checkpoint_name(y, STORED_PRODUCT)


class GatedExperts(Experts):
    """MLPs `W_o (φ(W_0 x) ⊙ W_1 x)`, as `mlps.GatedMLP` is one for all."""

    @nn.compact
    def __call__(
        self, rows: jax.Array, product: Product, *, enable_dropout: bool = False
    ) -> jax.Array:
        """Rows to rows; `product` knows which expert each of them belongs to."""
        gate, value = (self._input(name, rows, product) for name in ("wi_0", "wi_1"))
        return self._output(self.activation(gate) * value, rows.shape[-1], product, enable_dropout)


class ExpertKernel(nn.Module):
    """A matrix for each expert.

    Attributes:
      shape: `[x, inputs, outputs]`.
      axes: logical names of the three.
      kernel_init: initial values of one matrix.
    """

    shape: tuple[int, int, int]
    axes: tuple[str, str, str]
    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        """The matrices, float32."""
        return self.param("kernel", axis_names(self.axes, self.kernel_init), self.shape)


def _decisions(routing: Routing, served_btk: jax.Array) -> dict[str, jax.Array]:
    return {
        "experts": routing.choices.experts_btk,
        "gates": routing.choices.gates_btk,
        "served": served_btk,
        "probabilities": routing.probabilities_btx,
    }


class MixtureOfExperts(nn.Module):
    """A mixture of experts in place of an MLP, with losses that balance the experts' load.

    Reports the losses `load_balance_loss` and `router_z_loss` and the metrics `router_entropy`
    (nats), `expert_overflow` (the share of choices that found their expert full),
    `expert_load_max` and `expert_load_min` (the load of the busiest and of the idlest expert,
    where 1 is an equal share). Recorded as `intermediates.ROUTING` are, by name, `experts` int32,
    `gates` float32 and `served` bool, all `[b, t, k]`, and `probabilities` float32 `[b, t, x]`.

    Attributes:
      make_router: makes the `Router`.
      make_experts: makes the `Experts`.
      dispatch: `Capacity` or `Dropless`.
      load_balance: α of the load-balancing loss.
      router_z_loss: coefficient of the router's z-loss.
    """

    make_router: ModuleFactory
    make_experts: ModuleFactory
    dispatch: Dispatch = Capacity()
    load_balance: float = 0.01
    router_z_loss: float = 0.0

    def setup(self) -> None:
        """Makes the two parts."""
        self.router = self.make_router()
        self.experts = self.make_experts()

    def __call__(self, x_bte: jax.Array, *, enable_dropout: bool = False) -> jax.Array:
        """`[b, t, e]` to the same shape; zero for a token whose experts are all full."""
        routing = self.router(x_bte, training=enable_dropout)

        def experts(rows: jax.Array, product: Product) -> jax.Array:
            return self.experts(rows, product, enable_dropout=enable_dropout)

        y_bte, served_btk = self.dispatch(x_bte, routing.choices, experts, training=enable_dropout)
        self._report(routing, served_btk)
        return y_bte

    @intermediates.recorded(intermediates.ROUTING, _decisions)
    def _report(self, routing: Routing, served_btk: jax.Array) -> None:
        one = jnp.float32(1)
        load_x = load(routing.choices)
        relative_x = load_x * load_x.size
        log_p_btx = nn.log_softmax(routing.logits_btx)
        entropy_bt = -(routing.probabilities_btx * log_p_btx).sum(-1)
        losses = {
            "load_balance_loss": self.load_balance * load_balance_loss(routing),
            "router_z_loss": self.router_z_loss * router_z_loss(routing.logits_btx),
        }
        metrics = {
            "router_entropy": (entropy_bt.sum(), one * entropy_bt.size),
            "expert_overflow": ((~served_btk).sum(dtype=jnp.float32), one * served_btk.size),
            "expert_load_max": (relative_x.max(), one),
            "expert_load_min": (relative_x.min(), one),
        }
        auxiliary_losses.report(self, losses, jax.lax.stop_gradient(metrics))


def load(choices: Choices, first: bool = False) -> jax.Array:
    """The share of all choices that fell on each expert, float32 `[x]`, sums to 1.

    Args:
      choices: of all tokens.
      first: whether to count the first choices only.
    """
    experts = choices.experts_btk[..., :1] if first else choices.experts_btk
    chosen = experts.reshape(-1, 1) == jnp.arange(choices.num_experts)
    return chosen.mean(0, dtype=jnp.float32)


def load_balance_loss(routing: Routing) -> jax.Array:
    """`E Σ f_i P_i`, 1 where all experts are equally loaded (Fedus et al. 2021, eq. 4 to 6).

    `f_i` is the share of tokens whose first choice is expert i, before any capacity, and `P_i`
    the mean probability of expert i; over all tokens of the (micro)batch. As in GShard, second
    choices do not count.
    """
    f_x = load(routing.choices, first=True)
    p_x = routing.probabilities_btx.mean((0, 1))
    return p_x.size * (f_x * p_x).sum()


def router_z_loss(logits_btx: jax.Array) -> jax.Array:
    """The mean of `log(Σ exp(x_i))²` (Zoph et al. 2022, eq. 5)."""
    return jnp.square(jax.nn.logsumexp(logits_btx, axis=-1)).mean()
