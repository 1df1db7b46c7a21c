"""The two small contracts that join the engine to `models` and `tasks`.

The three packages never import one another; whatever has these attributes fits.

Shapes: `b` batch, `t` decoder positions, `s` encoder positions, `v` vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

Array = Any  # jax.Array or np.ndarray; jax is not imported for a contract
Params = Any  # a pytree of arrays
Cache = Any  # a pytree of arrays, see LanguageModel.init_cache
Batch = Mapping[str, Array]
Example = dict[str, np.ndarray]
Architecture = Literal["encoder_decoder", "decoder_only"]
Metrics = dict[str, tuple[Array, Array]]  # name -> (sum, weight); the mean is their ratio


@runtime_checkable
class LanguageModel(Protocol):
    """A Linen module that also knows its loss, its size and how to decode.

    A batch holds T5X's features, int32 `[b, t]` (`[b, s]` for the encoder's):
    `encoder_input_tokens`, `decoder_input_tokens`, `decoder_target_tokens`,
    `decoder_loss_weights`, and for packed rows `{encoder,decoder}_segment_ids` and
    `{encoder,decoder}_positions`; a prefix language model adds
    `decoder_causal_attention`, 1 where attention is bidirectional.
    Token 0 pads.
    """

    architecture: ClassVar[Architecture]
    vocab_size: int
    max_length: int | None  # most tokens of a decoder row; None for any number

    def init(self, rng: Array, batch: Batch) -> dict[str, Params]:
        """Fresh variables, `{"params": tree of float32 arrays}`."""

    def apply(self, variables: Mapping[str, Params], **batch: Array) -> Array:
        """Logits, float32 `[b, t, v]`."""

    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits without dropout, float32 `[b, t, v]`."""

    def attention_weights(self, params: Params, batch: Batch) -> Mapping[str, Array]:
        """Float32 `[layers, b, h, t, s]`: `decoder`; with an encoder `encoder` and `cross` too."""

    def routing(
        self, params: Params, batch: Batch
    ) -> Mapping[str, Mapping[int, Mapping[str, Array]]]:
        """What routers of experts decide: side (`encoder`, `decoder`), layer, and by name.

        Layers count from 0. `experts` int32, `gates` float32 and `served` bool `[b, t, k]`, and
        `probabilities` float32 `[b, t, experts]`. Empty without experts.
        """

    def loss(self, params: Params, batch: Batch, rng: Array | None = None) -> tuple[Array, Metrics]:
        """The loss *summed* over the target tokens, and summed metrics with their weights.

        The engine divides by `metrics["loss"][1]`, the sum of the loss weights, counted
        over the global batch. Without `rng` there is no dropout.
        """

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

    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Model FLOPs of one training step (forward and backward) on these shapes.

        Matrix products only, full attention counted, recomputation not.
        """


@runtime_checkable
class Objective(Protocol):
    """What a tokenized example is turned into afresh in every epoch, in pure NumPy.

    Attributes:
      reads: features that it takes from the cache.
      writes: features that it gives, int32 `[length]` without EOS.
      document_eos: whether EOS ends every document before documents are joined, and so
        none ends the objective's features.

    Where the tokens of a feature do not stand at 0, 1, 2, … its name is in `positioned`, a
    tuple that other objectives need not have, and the objective gives `NAME_positions` too.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    document_eos: bool

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """What the model is shown; the same `rng` state gives the same."""

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """Tokens of the pieces into which joined documents are cut; None keeps documents."""


class Vocabulary(Protocol):
    """Text to ids and back, without TensorFlow.

    0 pads. A vocabulary in which 0 is a token all the same has `zero_is_token = True`, and
    batches then tell tokens from padding by loss weights and segment ids, not by value.

    A decoder's rows, and every segment of packed rows, begin with `start_id`; 0 where a
    vocabulary has no such attribute.
    """

    vocab_size: int  # with the extra (sentinel) ids, which are the highest
    extra_ids: int
    eos_id: int
    unk_id: int | None

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, up to the first EOS."""

    def spec(self) -> dict[str, Any]:
        """JSON for `task.json`: kind, sizes, ids, file and its SHA-256.

        `start_id` is among the ids where the vocabulary has one, and its `start_token`, the
        setting that names it, beside it.
        """


class Feature(Protocol):
    """One output feature of a task."""

    vocabulary: Vocabulary
    add_eos: bool


class Task(Protocol):
    """What is learned from; `tasks` declares them, free of TensorFlow until asked.

    Attributes:
      name: as registered with seqio.
      cache_name: folder under the cache directory; tasks that differ only in their
        objective share it.
      output_features: what a model is given, after the objective.
      metric_fns: `(targets, predictions) -> {name: value}`.

    A task whose objective has `positioned` has the same, known without vocabularies.
    """

    name: str
    cache_name: str
    output_features: Mapping[str, Feature]
    metric_fns: Sequence[Callable[[Sequence[Any], Sequence[Any]], Mapping[str, float]]]

    def objective(self, vocabularies: Mapping[str, Mapping[str, Any]]) -> Objective | None:
        """The objective for these vocabularies (specs as in `task.json`), if there is one.

        Taking the specs and not the vocabularies, it needs no tokenizer installed.
        """

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """Decoded text to what the metrics compare."""

    def fingerprint(self) -> str:
        """Hex digest of everything that decides the cache: source, vocabularies, preprocessing."""

    @property
    def source_is_local(self) -> bool:
        """Whether `train` may build a missing cache by itself."""

    def seqio(self) -> Any:
        """The `seqio.Task`; imports seqio, and so TensorFlow."""


class Mixture(Protocol):
    """Tasks with the rates at which their examples are drawn."""

    name: str
    tasks: Sequence[tuple[Task, float]]
