"""What the engine asks of a model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

Array = Any  # jax.Array or np.ndarray; jax is not imported for a contract
Params = Any  # a pytree of arrays
Cache = Any  # a pytree of arrays, see Decodes.init_cache
Carry = Any  # a pytree of arrays whose first axis is the batch's, see Carries
Batch = Mapping[str, Array]
Example = dict[str, np.ndarray]
Sums = Mapping[str, Array]  # of a loss: term -> sum over the batch
BESIDE_POLICY, LABELS = "beside_policy", "labels"  # in the metadata of a checkpoint
Metrics = dict[str, tuple[Array, Array]]  # name -> (sum, weight); the mean is their ratio


@runtime_checkable
class Model(Protocol):
    """A Linen module that also knows its loss and its size.

    A loss has named terms. Each is a sum over a batch, which the engine divides by the term's
    weight in the *global* batch; the total is the sum of coefficient times term over weight. So
    microbatches and meshes change nothing beyond rounding, whatever the weights count: target
    tokens, sentences, pairs.

    Attributes:
      batch_format: the name of the batches that it takes, in `data.formats`.
      loss_terms: name of each term to its coefficient; `{"loss": 1.0}` in the common case.
      vocab_size: ids of tokens are below it.
      max_length: most tokens in a row; None for any number.
    """

    vocab_size: int
    max_length: int | None

    @property
    def batch_format(self) -> str:
        """See above."""

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """See above."""

    def init(self, rng: Array, batch: Batch) -> dict[str, Params]:
        """Fresh variables, `{"params": tree of float32 arrays}`."""

    def apply(self, variables: Mapping[str, Params], **batch: Array) -> Any:
        """The module itself: of a language model the logits, float32 `[b, t, v]`."""

    def loss_weights(self, batch: Batch) -> Mapping[str, Array]:
        """What each term of the loss is divided by, float32 scalars, from the batch alone."""

    def loss(self, params: Params, batch: Batch, rng: Array | None = None) -> tuple[Sums, Metrics]:
        """Each term of the loss *summed* over the batch, and summed metrics with their weights.

        The metrics have every term under its name. Without `rng` there is no dropout.
        """

    def abstract_params(self) -> Params:
        """The parameter tree as `nn.LogicallyPartitioned` boxes of `ShapeDtypeStruct`s."""

    def axis_blocks(self) -> Mapping[str, int]:
        """Units that a logical axis of parameters holds together, such as those of one head."""

    def parameter_count(self, *, embeddings: bool = True) -> int:
        """How many parameters there are, with or without the vocabulary's and positions'."""

    def forward_flops(
        self, batch_shapes: Mapping[str, tuple[int, ...]]
    ) -> Mapping[str, tuple[float, float]]:
        """FLOPs of one forward pass in training, by part of the model: in full, and needed.

        Matrix products only. Needed is what causal and windowed masks leave of attention, and
        without the empty slots of experts.
        """

    def backward_flops(
        self, batch_shapes: Mapping[str, tuple[int, ...]]
    ) -> Mapping[str, tuple[float, float]]:
        """The same of the backward pass: each product twice, where all parameters are trained."""

    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Model FLOPs of one training step (forward and backward) on these shapes.

        Matrix products only, full attention counted, recomputation not.
        """


@runtime_checkable
class Decodes(Model, Protocol):
    """A model that writes text, token by token.

    A batch holds T5X's features, int32 `[b, t]` (`[b, s]` for the encoder's):
    `encoder_input_tokens`, `decoder_input_tokens`, `decoder_target_tokens`,
    `decoder_loss_weights`, and for packed rows `{encoder,decoder}_segment_ids` and
    `{encoder,decoder}_positions`; a prefix language model adds
    `decoder_causal_attention`, 1 where attention is bidirectional.
    Token 0 pads. `max_length` is of the decoder's rows.
    """

    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits without dropout, float32 `[b, t, v]`."""

    def decoding_params(self, params: Params) -> Params:
        """The parameters laid out for decoding; `init_cache` and `decode_step` take both.

        Called once before a decoding loop. A model with nothing to gain returns `params`.
        """

    def init_cache(self, params: Params, batch: Batch, max_decode_length: int) -> Cache:
        """The decoding state after the encoder and the prompt have been read.

        `batch` holds `encoder_input_tokens` (encoder-decoder) and, optionally, a prompt
        `decoder_input_tokens` `[b, p]`, padded **on the left**, with `decoder_positions`
        and `decoder_segment_ids` (0 on the padding, 1 elsewhere). `max_decode_length`
        counts the prompt. Every leaf of rank 1 or more has the batch as its first axis.
        """

    def decode_step(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """One more token a row: `tokens` int32 `[b]` to logits float32 `[b, v]`."""


@runtime_checkable
class Extends(Decodes, Protocol):
    """A model that reads several tokens at once after what is in the cache."""

    def extend(self, params: Params, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        """As so many of `decode_step`: `tokens` int32 `[b, n]` to logits float32 `[b, n, v]`."""


@runtime_checkable
class CoversSource(Decodes, Protocol):
    """A model whose cache knows how much each token of the source was attended to."""

    def log_coverage(self, cache: Cache) -> Array:
        """`Σ_i log min(Σ_j p_ij, 1)`, float32 `[b]`.

        p is the attention of the target's tokens j so far to the source's tokens i.
        """


@runtime_checkable
class Predicts(Model, Protocol):
    """A model with a head: for rows, tokens, spans or choices.

    Outputs that are numbers of classes may have names: `label_names`, output to names of 0, 1, …
    """

    def predict(self, params: Params, batch: Batch) -> Mapping[str, Array]:
        """Named outputs, each with the batch as its first axis."""


@runtime_checkable
class Carries(Model, Protocol):
    """A model that hands a state from one batch to the next, row by row.

    Attributes:
      carries: whether this one does; its batches are then rows that continue those before.
    """

    @property
    def carries(self) -> bool:
        """See above."""

    def initial_carry(self, rows: int) -> Carry:
        """What the first batch begins with; every leaf has the rows as its first axis."""

    def loss_and_carry(
        self, params: Params, batch: Batch, carry: Carry, rng: Array | None = None
    ) -> tuple[Sums, Metrics, Carry]:
        """As `Model.loss`, from the carry of the batch before; and the next batch's."""


@runtime_checkable
class MeasuresRows(Model, Protocol):
    """A model that tells the metrics of each row, from which a mean has a standard error."""

    def row_metrics(self, params: Params, batch: Batch) -> tuple[Metrics, Metrics]:
        """What `Model.loss` without `rng` measures, of each row by itself.

        No row's depends on the rows beside it: losses that balance a batch are left out of `loss`.

        Returns:
          Sums and weights `[b]` of the loss's terms and the metrics beside them; and metrics,
          scalars, that only the batch as a whole has.
        """


@runtime_checkable
class UsesFrozen(Model, Protocol):
    """A model whose loss reads the parameters of other models: a teacher, a reference, a reward.

    Attributes:
      frozen_models: name to model; none of them is trained.
    """

    @property
    def frozen_models(self) -> Mapping[str, Model]:
        """See above."""

    def loss_with_frozen(
        self, params: Params, batch: Batch, frozen: Mapping[str, Params], rng: Array | None = None
    ) -> tuple[Sums, Metrics]:
        """As `Model.loss`, with each frozen model's parameters by name."""


@runtime_checkable
class LearnsFromRewards(UsesFrozen, Protocol):
    """A policy with a value function, for reinforcement learning; its batches are prompts.

    Its `loss` is the policy's language-model loss of rows of text, which may be mixed in. Rows of
    prompts and answers are int32 `[b, p + n]`, padded on the left of prompts and behind answers.

    Attributes:
      policy: writes the answers.
      reward: the frozen model that gives rewards; None where a rule does.
      beside_policy: first parts of the names of parameters that are not the policy's.
    """

    @property
    def policy(self) -> Decodes:
        """See above."""

    @property
    def reward(self) -> Model | None:
        """See above."""

    @property
    def beside_policy(self) -> Sequence[str]:
        """See above."""

    def policy_params(self, params: Params) -> Params:
        """Of all parameters the policy's."""

    def logits_and_values(
        self, params: Params, rows: Batch, answer_length: int
    ) -> tuple[Array, Array]:
        """For each token of answers the policy's logits `[b, n, v]`, and the value before it."""

    def reference_logits(
        self, frozen: Mapping[str, Params], rows: Batch, answer_length: int
    ) -> Array:
        """The reference's logits for the tokens of answers, float32 `[b, n, v]`."""

    def rewards(self, frozen: Mapping[str, Params], rows: Batch) -> Array:
        """The reward of each answer by the reward model, float32 `[b]`."""


class Tuning(Protocol):
    """What of a model training changes: the attribute `tuning` of one that is tuned in part.

    Attributes:
      added_length: slots that stand before the text of every row, within `max_length`; a row then
        holds one text.
    """

    @property
    def added_length(self) -> int:
        """See above."""

    def trains(self, name: str) -> bool:
        """Whether it changes the parameter of this name, `decoder/layers/mlp/wi/kernel`."""

    def adds(self, name: str) -> bool:
        """Whether a parameter is one that the model has only for being tuned."""


@runtime_checkable
class UsesStep(Model, Protocol):
    """A model whose loss changes in the course of training.

    Attributes:
      uses_step: whether batches of training have `row_step`, int32 `[b]`, the number of the step,
        from 0.
    """

    uses_step: bool


@runtime_checkable
class EmbedsContexts(Model, Protocol):
    """A model that has a vector for each token of a text in its context.

    One whose vectors are of words, and not of a text's end, has `embeds_words = True`.
    """

    def contextual_vectors(self, params: Params, batch: Batch) -> Array:
        """Float32 `[b, n, e]`: of the encoder's tokens where there is one, else the decoder's."""


@runtime_checkable
class EmbedsTokens(Model, Protocol):
    """A model with a vector for each token of its vocabulary, that of the targets.

    With `embeds_words = True` it is that of the inputs.
    """

    def token_vectors(self, params: Params) -> Array:
        """Float32 `[v, e]`."""


@runtime_checkable
class ShowsAttention(Model, Protocol):
    """A model whose attention can be looked at."""

    def attention_weights(self, params: Params, batch: Batch) -> Mapping[str, Array]:
        """Float32 `[layers, b, h, t, s]`: `decoder`, `encoder`, `cross`, those that there are."""


@runtime_checkable
class ShowsRouting(Model, Protocol):
    """A model that may have experts."""

    def routing(
        self, params: Params, batch: Batch
    ) -> Mapping[str, Mapping[int, Mapping[str, Array]]]:
        """What routers of experts decide: side (`encoder`, `decoder`), layer, and by name.

        Layers count from 0. `experts` int32, `gates` float32 and `served` bool `[b, t, k]`, and
        `probabilities` float32 `[b, t, experts]`. Empty without experts.
        """


@runtime_checkable
class Counts(Protocol):
    """What makes a model of a corpus by counting, in one pass.

    Attributes:
      batch_format: of the batches that it reads, and of the model.
    """

    batch_format: str

    def count(
        self,
        batches: Iterable[Batch],
        *,
        vocab_size: int,
        zero_is_token: bool,
        start_id: int,
        end_id: int,
    ) -> tuple[Model, Params, Sequence[str]]:
        """The model, its parameters as NumPy arrays, and what a user should know of them.

        Args:
          batches: a split once through, one example a row.
          vocab_size: of the task's vocabulary.
          zero_is_token: whether its token 0 is one, and not padding.
          start_id: what stands before every text.
          end_id: what ends a text, where the task ends it with a token.
        """


class FrozenSource(Protocol):
    """Where the parameters of a frozen model come from."""

    def fingerprint(self) -> str:
        """What tells these parameters from others, for the identity of a run."""

    def host_params(self, model: Model) -> Params:
        """The model's parameters as NumPy arrays, or as arrays of any devices.

        Raises:
          UserError: there are none, or they are another model's.
        """
