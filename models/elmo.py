"""ELMo: language models from both ends over words that are read by their characters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.heads import HeadOutput
from models.layers.dropout import Dropout
from models.layers.embeddings import OutputBias, OutputKernel, logits
from models.layers.linear import normal, uniform
from models.layers.recurrent.cells import LSTM, ProjectedLSTM
from models.layers.recurrent.encoder import BidirectionalLayer, recurrent_layer
from models.layers.recurrent.stack import States, continued, initial_states
from models.layers.recurrent.time_scan import steps_of_segments
from models.layers.stacks.scalar_mix import ScalarMix, scalar_mix
from models.model import Array, Batch, Params
from models.word_reader import WordReader

FORWARD, BACKWARD = "forward", "backward"


class ELMo(WordReader, kw_only=True):
    """A language model of the next word and one of the word before (Peters et al. 2018).

    Both read a vector of each word that is made of its characters, and tell words by one softmax;
    their layers are apart. A layer is an LSTM whose hidden state is a projection of it; from the
    second on its input is added to its output. The loss is the sum of both directions' (section
    3.1), each a mean over the words that it tells.

    Without a head batches hold, beside what all `WordReader`s read, `encoder_input_tokens`, the
    words, and `encoder_loss_weights`, 0 where a word is not to be told, `[b, t]`.

    With `carries` it fulfils `Carries` of the engine's protocols. Rows then continue those of the
    batch before, and the forward LSTMs begin with the states that they ended the same row with
    (truncated back-propagation through time). The backward ones begin with zeros at each row's end,
    because what follows it is not read yet; the released program carries theirs too, over a stream
    of its own in which each sentence is reversed. Across two rows nothing is told: not the first
    word of a row from those before it, nor the last one from those after it.

    A head reads a mean of the layers whose weights are learned with it (section 3.2), or an LSTM in
    both directions above that, the task's own. What is below the mean is as the language models
    have it: no dropout is in it, and `tuning` says whether it is trained. What tells words is left
    out.

    The defaults are the released model, without its sampling of the softmax: all words count.

    Attributes:
      num_layers: of each direction.
      hidden_dim: units of an LSTM.
      projection_dim: size of a word's vector, and of each direction's states.
      cell_clip: the LSTMs' cells are cut to between minus and plus this; None leaves them.
      projection_clip: likewise the projections.
      mix_scores: how much each vector of a word counts in `hidden_states` of what `predict` gives:
        the word's own, and each layer's; None is the same for all. With a head it learns these and
        the next one, and begins so.
      mix_scale: what their mean is multiplied by, γ of equation 1.
      task_dim: units each way of an LSTM between the mean and the head; None is none.
      carries: whether training and evaluation hand the forward states from batch to batch; else
        every row begins anew.
    """

    num_layers: int = 2
    hidden_dim: int = 4096
    projection_dim: int = 512
    cell_clip: float | None = 3.0
    projection_clip: float | None = 3.0
    mix_scores: tuple[float, ...] | None = None
    mix_scale: float = 1.0
    task_dim: int | None = None
    carries: bool = False

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: as of every `WordReader`, a range that is none, scores for another number of
            layers, a layer of a task without one, or a head beside `carries`.
        """
        super().__post_init__()
        if self.head is not None and self.carries:
            raise self.refused(
                "carries", "rows of a task with labels continue nothing: set it to False"
            )
        if self.task_dim is not None and self.head is None:
            raise self.refused("task_dim", "there is no head that it could be of: set it to None")
        for name in ("cell_clip", "projection_clip"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise self.refused(name, "it must be above 0, or None")
        if self.mix_scores is not None and len(self.mix_scores) != 1 + self.num_layers:
            raise self.refused(
                "mix_scores",
                f"{1 + self.num_layers} numbers are needed, of the word and of each layer",
            )

    def setup(self) -> None:
        """Makes the words' layers, those of both directions, and the output or the head."""
        self.words = self.character_layers(self.projection_dim)
        layer = recurrent_layer(self.remat_policy)
        # Glorot and Bengio 2010, equation 16, of the matrix of input and state to all gates.
        draw = uniform((6 / (2 * self.projection_dim + 4 * self.hidden_dim)) ** 0.5)
        fields = self._cell, self.hidden_dim, draw, self.scan_unroll, self.dtype
        self.forward = [layer(*fields) for _ in range(self.num_layers)]
        self.backward = [layer(*fields) for _ in range(self.num_layers)]
        if self.head is not None:
            self.mix = ScalarMix(self._first_scores, self.mix_scale)
            width = 2 * (self.task_dim or self.projection_dim)
            if self.task_dim is not None:
                last = self.remat_policy, self.scan_unroll, self.dtype
                near = uniform(self.task_dim**-0.5)  # as torch draws its LSTMs
                self.task_layer = BidirectionalLayer(LSTM(), self.task_dim, near, *last)
            init = normal(width**-0.5)
            self.output_head = HeadOutput(self.head.outputs, init, self.head_dropout_rate)
            return
        self.output = OutputKernel(
            self.vocab_size, self.projection_dim, normal(self.projection_dim**-0.5)
        )
        self.logit_bias = OutputBias(self.vocab_size)

    @property
    def _cell(self) -> ProjectedLSTM:
        return ProjectedLSTM(self.projection_dim, self.cell_clip, self.projection_clip)

    @property
    def _first_scores(self) -> tuple[float, ...]:
        none = (0.0,) * (1 + self.num_layers)
        return none if self.mix_scores is None else tuple(self.mix_scores)

    @property
    def batch_format(self) -> str:
        """As of every `WordReader`; with `carries`, rows that continue those before."""
        return "contiguous_spelled_words" if self.carries else super().batch_format

    # Inside `apply`.

    def states_and_carry(
        self,
        *,
        encoder_characters: Array,
        encoder_segment_ids: Array,
        row_continues: Array | None = None,
        carry: States | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> tuple[list[Array], list[Array], States]:
        """What either direction has of each word, from the word's own vector upwards.

        Args:
          encoder_characters: int `[b, t, n]`.
          encoder_segment_ids: int `[b, t]`, the number of each word's text, 0 on padding. The first
            text of a row continues `carry`.
          row_continues: int `[b]`, 0 on the rows that begin with states of zeros and not with
            `carry`; None is 1 on all.
          carry: the forward states before the first word; None is `initial_carry`.
          enable_dropout: of what goes into each layer and into the output; needs an rng `dropout`.

        Returns:
          Forward and backward, `[b, t, p]` for the words and each layer; and the forward states
          after each row's last word, a tree like `carry`.
        """
        x_btp = self.words(self.characters_of(encoder_characters))
        dropout = Dropout(self.dropout_rate)
        zeros = self.initial_carry(x_btp.shape[0])
        begun = zeros if carry is None else continued(carry, row_continues)
        found, ended = [], []
        for layers, states, turn in (
            (self.forward, begun, slice(None)),
            (self.backward, zeros, slice(None, None, -1)),
        ):
            steps = steps_of_segments(encoder_segment_ids[:, turn])
            y_btp, read, last = x_btp[:, turn], [x_btp], {}
            for i, layer in enumerate(layers):
                draw = enable_dropout and self.dropout_rate
                y_btp = dropout(y_btp, self.make_rng("dropout") if draw else None)
                name = f"layers_{i}"
                told_btp, last[name] = layer(y_btp, states[name], steps)
                y_btp = told_btp + y_btp if i else told_btp
                read.append(y_btp[:, turn])
            found.append(read)
            ended.append(last)
        return found[0], found[1], ended[0]

    def _directions(
        self, enable_dropout: bool = False, **features: Any
    ) -> tuple[tuple[Array, Array], Array, Array, States]:
        """What the output reads of either direction, its matrix and bias, and the carry."""
        self.check_features(features)
        *both, carry = self.states_and_carry(**features, enable_dropout=enable_dropout)
        draw = enable_dropout and self.dropout_rate
        dropped = [
            Dropout(self.dropout_rate)(read[-1], self.make_rng("dropout") if draw else None)
            for read in both
        ]
        return (dropped[0], dropped[1]), self.output(), self.logit_bias(), carry

    def __call__(self, **features: Any) -> Array:
        """Logits of the next word and of the word before, float32 `[2, b, t, v]`; or the head's.

        Raises:
          ModelError: a feature is missing.
        """
        if self.head is not None:
            return self.with_head(**features)[0]
        read, kernel_pv, bias_v, _ = self._directions(**features)
        return jnp.stack([logits(x_btp, kernel_pv, bias_v) for x_btp in read])

    def layers(self, **features: Any) -> Array:
        """The vectors of each word, the word's own twice and each layer's, `[b, t, l, 2 p]`."""
        self.check_features(features)
        forward, backward, _ = self.states_and_carry(**features)
        both = [jnp.concatenate(pair, axis=-1) for pair in zip(forward, backward, strict=True)]
        return jnp.stack(both, axis=-2)

    def read_by_head(self, *, enable_dropout: bool = False, **features: Array) -> Array:
        """The mixed vectors, `[b, t, 2 p]`, or what the task's layer makes of them."""
        x_bte = self.mix(self.layers(**features))
        if self.task_dim is None:
            return x_bte
        draw = enable_dropout and self.dropout_rate
        x_bte = Dropout(self.dropout_rate)(x_bte, self.make_rng("dropout") if draw else None)
        both = self.task_layer(x_bte, features["encoder_segment_ids"])
        return jnp.concatenate(both, axis=-1)

    # What the engine calls.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """A term for each direction, or the head's."""
        return {FORWARD: 1.0, BACKWARD: 1.0} if self.head is None else super().loss_terms

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many words are told from those before them, and from those after; or the head's."""
        if self.head is not None:
            return super().loss_weights(batch)
        return {name: told[1].sum() for name, told in _told(batch).items()}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Cross-entropy of each direction, nats, summed over the words; see `Model.loss`.

        `forward_accuracy` and `backward_accuracy` are the shares of words that are the likeliest.
        With a head its loss.
        """
        if self.head is not None:
            return super().loss(params, batch, rng)
        return self._of_batch(params, batch, None, rng)[:2]

    @nn.nowrap
    def initial_carry(self, rows: int) -> States:
        """The forward states before the first word, zeros, by layer.

        Float32 `hidden` `[rows, projection_dim]` and `cell` `[rows, hidden_dim]`.
        """
        return initial_states(self._cell, rows, (self.hidden_dim,) * self.num_layers)

    @nn.nowrap
    def loss_and_carry(
        self, params: Params, batch: Batch, carry: States, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics, States]:
        """`loss` of rows that continue forward states, and these after them.

        Args:
          params: as `init` makes them.
          batch: as for `loss`; with `row_continues` `[b]`, rows where it is 0 begin anew.
          carry: of the batch before, or `initial_carry`. No gradient flows into it.
          rng: for dropout, of which there is none without it.
        """
        return self._of_batch(params, batch, jax.lax.stop_gradient(carry), rng)

    @nn.nowrap
    def _of_batch(
        self, params: Params, batch: Batch, carry: States | None, rng: Array | None
    ) -> tuple[dict[str, Array], losses.Metrics, States]:
        made: Any = self.apply(
            {"params": params},
            **batch,
            carry=carry,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            method="_directions",
        )
        read, kernel_pv, bias_v, ended = made
        sums, metrics = {}, {}
        for x_btp, (name, (targets_bt, weights_bt)) in zip(read, _told(batch).items(), strict=True):
            sums[name], found = losses.output_cross_entropy(
                x_btp, kernel_pv, targets_bt, weights_bt, bias_v=bias_v
            )
            metrics[name] = found["loss"]
            metrics[f"{name}_accuracy"] = found["token_accuracy"]
        return sums, metrics, ended

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """The vectors of each word in its context, without dropout.

        Args:
          params: as `init` makes them.
          batch: of `batch_format`.

        Returns:
          Float32 `layers` `[b, t, l, 2 p]`, the word's own vector twice and each layer's of both
          directions; and their mean by `mix_scores`, `hidden_states` `[b, t, 2 p]`. With a head see
          `WordReader`.
        """
        if self.head is not None:
            return super().predict(params, batch)
        found: Any = self.apply({"params": params}, **batch, method="layers")
        layers_btlp = found.astype(jnp.float32)
        scores_l = jnp.asarray(self._first_scores, jnp.float32)
        mixed_btp = scalar_mix(layers_btlp, scores_l, self.mix_scale)
        return {"hidden_states": mixed_btp, "layers": layers_btlp}


def _told(batch: Batch) -> dict[str, tuple[Array, Array]]:
    """The word that each place tells in either direction, and float32 weights, `[b, t]` each."""
    targets_bt, segments_bt = batch["encoder_input_tokens"], batch["encoder_segment_ids"]
    weights_bt = batch["encoder_loss_weights"].astype(jnp.float32)
    told = {}
    for name, places in ((FORWARD, 1), (BACKWARD, -1)):
        targets, segments, weights = (
            _shifted(x, places) for x in (targets_bt, segments_bt, weights_bt)
        )
        same_bt = (segments == segments_bt) & (segments_bt != 0)
        told[name] = targets, jnp.where(same_bt, weights, 0.0)
    return told


def _shifted(x_bt: Array, places: int) -> Array:
    """What stands so many places further on, and 0 where there is nothing."""
    if places > 0:
        return jnp.pad(x_bt[:, places:], ((0, 0), (0, places)))
    return jnp.pad(x_bt[:, :places], ((0, 0), (-places, 0)))
