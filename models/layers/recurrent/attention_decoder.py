"""A recurrent decoder that attends to its source at every token."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from models.layers import intermediates, parts
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT, Initializer, axis_names
from models.layers.recurrent.alignment import Score, attend
from models.layers.recurrent.cells import Cell, Product
from models.layers.recurrent.encoder import FIRST_RESIDUAL
from models.layers.recurrent.stack import States
from models.layers.recurrent.time_scan import Steps
from models.layers.stacks.stack import policy_of

PREVIOUS, CURRENT = "previous", "current"
QUERIES = (PREVIOUS, CURRENT)


class Source(NamedTuple):
    """What a decoder attends to.

    Attributes:
      states_bse: the encoder's last states.
      keys_bsa: what the score reads of them.
      segments_bs: int, the number of each token's text, 0 on padding.
    """

    states_bse: jax.Array
    keys_bsa: jax.Array
    segments_bs: jax.Array


class Read(NamedTuple):
    """What a decoder gives at each token.

    Attributes:
      outputs_btf: what the last layer gives; with a query of the current state, the attentional
        vector.
      contexts_bte: the weighted mean of the source's states.
      queries_btf: the state by which it was found.
      alignment_bts: the weights, float32.
    """

    outputs_btf: jax.Array
    contexts_bte: jax.Array
    queries_btf: jax.Array
    alignment_bts: jax.Array


class LayerWeights(NamedTuple):
    """The parameters of one layer, in the dtype of the computation.

    Attributes:
      kernel_eqf: of the input.
      context_eqf: of the context; None in a layer that reads none.
      recurrent_fqf: of the state.
      bias_qf: of the gates.
      recurrent_bias_qf: of the product with the state; None for a cell without.
    """

    kernel_eqf: jax.Array
    context_eqf: jax.Array | None
    recurrent_fqf: jax.Array
    bias_qf: jax.Array
    recurrent_bias_qf: jax.Array | None


class DecoderLayer(nn.Module):
    """The parameters of one layer.

    Attributes:
      cell: which one.
      units: of the state.
      input_dim: width of the input.
      context_dim: width of the context; 0 for a layer without one.
      param_init: initial values of matrices and biases.
      dtype: in which they are given.
    """

    cell: Cell
    units: int
    input_dim: int
    context_dim: int
    param_init: Initializer
    dtype: str

    @nn.compact
    def __call__(self) -> LayerWeights:
        """All of them; the context has a matrix if there is one."""
        gates, count = self.cell.gates, self.cell.recurrent_biases
        recurrent_qf = self._param("recurrent_bias", count) if count else None
        if recurrent_qf is not None:
            recurrent_qf = jnp.pad(recurrent_qf, ((gates - count, 0), (0, 0)))
        return LayerWeights(
            self._param("kernel", gates, self.input_dim),
            self._param("context_kernel", gates, self.context_dim) if self.context_dim else None,
            self._param("recurrent_kernel", gates, self.units),
            self._param("bias", gates),
            recurrent_qf,
        )

    def _param(self, name: str, gates: int, *inputs: int) -> jax.Array:
        axes = (*("embed" for _ in inputs), None, "mlp")
        init = axis_names(axes, self.param_init)
        return self.param(name, init, (*inputs, gates, self.units), jnp.float32).astype(self.dtype)


class AttentionDecoder(nn.Module):
    """Recurrent layers and the attention between them, scanned over the tokens.

    Attributes:
      cell: of every layer.
      score: of the attention.
      num_layers: how many.
      units: of each.
      input_dim: width of what the first layer reads.
      memory_dim: width of the source's states.
      query: "previous": the first layer's state before the token asks, and the context goes into
        every layer (Bahdanau et al. 2015; Wu et al. 2016, section 3); "current": the last layer's
        state after the token asks, and `tanh(W [context; state])` is the output (Luong et al.
        2015, equation 5).
      feed_input: with "current", whether the output goes into the first layer at the next token
        (there, section 3.3).
      param_init: initial values of matrices and biases.
      dropout: on what goes into each layer, and on the output.
      residual: see `layers.recurrent.encoder.RecurrentEncoder`.
      remat_policy: see `layers.recurrent.stack.RecurrentStack`.
      unroll: tokens for each turn of the loop.
      dtype: of the products; states, scores and parameters are float32.
    """

    part: ClassVar[str] = parts.RECURRENCE

    cell: Cell
    score: Score
    num_layers: int
    units: int
    input_dim: int
    memory_dim: int
    query: str
    feed_input: bool
    param_init: Initializer
    dropout: Dropout = NO_DROPOUT
    residual: bool = False
    remat_policy: str = "dots"
    unroll: int = 1
    dtype: str = "float32"

    def setup(self) -> None:
        """Makes `layers_0` and so on, the score's parameters and `join`."""
        after = self.query == CURRENT
        context_dim = 0 if after else self.memory_dim
        fed_dim = self.units if after and self.feed_input else context_dim
        widths = [(self.input_dim, fed_dim)]
        widths += [(self.units, context_dim)] * (self.num_layers - 1)
        self.layers = [
            DecoderLayer(self.cell, self.units, *width, self.param_init, self.dtype)
            for width in widths
        ]
        shapes = self.score.shapes(self.units, self.memory_dim)
        self.score_weights = {
            name: self._matrix(f"score_{name}", *shape) for name, shape in shapes.items()
        }
        if after:
            self.join = self._matrix("join", self.memory_dim + self.units, self.units)

    def source(self, states_bse: jax.Array, segments_bs: jax.Array) -> Source:
        """What the decoder needs of the source, once for all tokens."""
        keys_bsa = self.score.keys(self.score_weights, states_bse)
        return Source(states_bse, keys_bsa, segments_bs)

    def __call__(
        self,
        x_bte: jax.Array,
        source: Source,
        state: Mapping[str, Any],
        steps: Steps | None,
        starts: States | None,
        texts_bt: jax.Array | None,
        enable_dropout: bool,
    ) -> tuple[Read, dict[str, Any]]:
        """Reads so many tokens.

        Args:
          x_bte: their vectors.
          source: as the method of that name gives it.
          state: `layers`, the states before the first token, and with input feeding `fed`, the
            output before it.
          steps: where the state does something else than follow the cell; None is nowhere.
          starts: `[b, t, f]`, the state that stands before each token where `steps` resets it; None
            is zeros.
          texts_bt: the number of each token's text, which attends to the source's of that number;
            None attends to all of the source but padding.
          enable_dropout: needs an rng `dropout`.
        """
        after = self.query == CURRENT
        layers = [layer() for layer in self.layers]
        keys = self._keys(x_bte.shape[1], enable_dropout)
        x_bte = self.dropout(x_bte.astype(self.dtype), None if keys is None else keys[0, 0])
        x_btqf = jnp.einsum("bte,eqf->btqf", x_bte, layers[0].kernel_eqf) + layers[0].bias_qf
        x_btqf = checkpoint_name(x_btqf, STORED_PRODUCT)

        def turn(state: Mapping[str, Any], inputs: Any) -> tuple[dict[str, Any], Any]:
            x_bqf, steps, starts, texts_b, keys_l = inputs
            before = state if steps is None else _reset(steps.reset, state, starts)
            mask_bs = source.segments_bs != 0
            if texts_b is not None:
                mask_bs = source.segments_bs == texts_b[:, None]

            def look(query_bf):
                return attend(
                    self.score,
                    self.score_weights,
                    query_bf,
                    source.keys_bsa,
                    source.states_bse,
                    mask_bs,
                )

            query_bf = before["layers"]["layers_0"]["hidden"]
            if not after:
                context_be, weights_bs = look(query_bf)
            fed_be = before.get("fed") if after else context_be
            new: dict[str, Any] = {"layers": {}}
            y_bf = query_bf  # of no layer yet
            for i, weights in enumerate(layers):
                read_bf = y_bf
                if i:
                    y_bf = self.dropout(y_bf, None if keys_l is None else keys_l[i])
                    x_bqf = _product(y_bf, weights.kernel_eqf) + weights.bias_qf
                if weights.context_eqf is not None:
                    x_bqf += _product(jnp.asarray(fed_be, x_bqf.dtype), weights.context_eqf)
                name = f"layers_{i}"
                new["layers"][name] = self.cell(
                    before["layers"][name], x_bqf, _recurrent_product(weights)
                )
                y_bf = new["layers"][name]["hidden"].astype(self.dtype)
                if self.residual and i >= FIRST_RESIDUAL:
                    y_bf += read_bf
            if after:
                query_bf = y_bf
                context_be, weights_bs = look(query_bf)
                joined_ba = jnp.concatenate([context_be, y_bf], axis=-1)
                y_bf = jnp.tanh(jnp.einsum("ba,af->bf", joined_ba, self.join))
                if "fed" in before:
                    new["fed"] = y_bf.astype(jnp.float32)
            if steps is not None:
                new = _where(steps.valid, new, before)
            return new, Read(y_bf, context_be, query_bf, weights_bs)

        policy = policy_of(self.remat_policy)
        if policy is not None:
            turn = jax.checkpoint(turn, policy=policy, prevent_cse=False)
        inputs = jax.tree.map(
            lambda a_bt: jnp.swapaxes(a_bt, 0, 1), (x_btqf, steps, starts, texts_bt)
        )
        final, read = jax.lax.scan(turn, dict(state), (*inputs, keys), unroll=self.unroll)
        read = Read(*(jnp.swapaxes(a_tb, 0, 1) for a_tb in read))
        self.alignment(read.alignment_bts)
        outputs_btf = self.dropout(
            read.outputs_btf, None if keys is None else self.make_rng("dropout")
        )
        outputs_btf = nn.with_logical_constraint(outputs_btf, ("batch", "length", "embed"))
        return read._replace(outputs_btf=outputs_btf), final

    @intermediates.within(intermediates.CROSS_ATTENTION)
    @intermediates.recorded(intermediates.ATTENTION, lambda weights_bts: weights_bts[:, None])
    def alignment(self, weights_bts: jax.Array) -> jax.Array:
        """The weights of the attention, of one head."""
        return weights_bts

    def _matrix(self, name: str, *shape: int) -> jax.Array:
        init = axis_names(("embed", "mlp")[2 - len(shape) :], self.param_init)
        return self.param(name, init, shape, jnp.float32).astype(self.dtype)

    def _keys(self, length: int, enable_dropout: bool) -> jax.Array | None:
        """A key for each token and layer, `[t, l]`; None without dropout."""
        if not (enable_dropout and self.dropout.rate):
            return None
        return jax.random.split(self.make_rng("dropout"), (length, self.num_layers))


def _product(left_bf: jax.Array, kernel_fqh: jax.Array) -> jax.Array:
    return checkpoint_name(jnp.einsum("bf,fqh->bqh", left_bf, kernel_fqh), STORED_PRODUCT)


def _recurrent_product(weights: LayerWeights) -> Product:
    def product(left_bf: jax.Array, gates: slice) -> jax.Array:
        kernel_fqh = weights.recurrent_fqf[:, gates]
        y_bqh = _product(left_bf.astype(kernel_fqh.dtype), kernel_fqh)
        if weights.recurrent_bias_qf is not None:
            y_bqh += weights.recurrent_bias_qf[gates]
        return y_bqh

    return product


def _reset(reset_b: jax.Array, state: Mapping[str, Any], starts: States | None) -> dict[str, Any]:
    fresh = jax.tree.map(jnp.zeros_like, dict(state))
    if starts is not None:
        fresh["layers"] = starts
    return _where(reset_b, fresh, dict(state))


def _where(condition_b: jax.Array, state: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition_b[:, None], a, b), state, other)
