"""word2vec: a vector for each word, by which its neighbours are told (Mikolov et al. 2013a, b).

Skip-gram tells a word from each word of its context, the continuous bag of words from their mean.
Neither has a layer: what is learned are two tables. Both are computed over blocks of consecutive
words, each block one product of matrices, which is what processors and TPUs are fast at; a word and
its context are pairs under a mask.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers import parts
from models.layers.embeddings import Embed
from models.layers.linear import uniform
from models.losses import Metrics
from models.model import Array, Batch, Model, Params

Output = Literal["negative_sampling", "hierarchical_softmax"]
_FORMATS: Mapping[str, str] = {
    "negative_sampling": "words_and_noise",
    "hierarchical_softmax": "words_and_paths",
}
# Nodes of a path that are computed together; what lies beyond all paths of a batch is not.
_NODES_AT_ONCE = 8


class WordVectors(Model, kw_only=True):
    """The base class of models that are a table of words' vectors."""

    input_features: ClassVar[tuple[str, ...]] = ("encoder_input_tokens",)
    trained: ClassVar[str] = "summed_loss"

    embed_dim: int = 100

    def __post_init__(self) -> None:
        """Checks that nothing is asked for that there is not.

        Raises:
          ModelError: dropout.
        """
        super().__post_init__()
        if self.dropout_rate:
            raise self.refused("dropout_rate", "it must be 0, there is no layer to drop units of")

    def __call__(self, *, encoder_input_tokens: Array, **_: Any) -> Array:
        """The words' vectors, float32 `[b, t, e]`."""
        if self.is_initializing():
            self.make_parameters()
        return self.token_embedder(encoder_input_tokens)

    def make_parameters(self) -> None:
        """Makes those parameters that looking up a word leaves aside."""
        raise NotImplementedError

    def summed_loss(self, **features: Any) -> Array:
        """The loss summed over the batch, a float32 scalar."""
        raise NotImplementedError

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], Metrics]:
        """See `Model.loss`; nothing is drawn."""
        summed: Any = self.apply({"params": params}, **batch, method="summed_loss")
        return {"loss": summed}, {"loss": (summed, self.loss_weights(batch)["loss"])}

    @nn.nowrap
    def token_vectors(self, params: Params) -> Array:
        """What each word is known by, float32 `[v, e]`."""
        return params["token_embedder"]["embedding"]


class Word2Vec(WordVectors, kw_only=True):
    """What skip-gram and the continuous bag of words have in common.

    The loss is a mean over the pairs of words and contexts, or over the words; gradients are those
    of this mean, where the released code adds the pairs up one after the other. Noise is drawn for
    a block of words: each of its pairs is told from all of the block's noise, at a weight that
    makes them `negatives` in all, so that the expected loss is the paper's. As in the released
    code, noise that is the word itself does not count.

    Attributes:
      embed_dim: size of a vector.
      output: what a word is told by: "negative_sampling" (Mikolov et al. 2013b, equation 4) or
        "hierarchical_softmax" (equation 3), with the batches of one or the other.
      window: widest window of the batch's words; wider ones are cut to it.
      negatives: words of noise that a pair is told from.
      block_size: consecutive words that are computed together and share their noise.
    """

    output: Output = "negative_sampling"
    window: int = 5
    negatives: int = 5
    block_size: int = 32

    def __post_init__(self) -> None:
        """Checks the output.

        Raises:
          ModelError: it is neither of the two.
        """
        if self.output not in _FORMATS:
            raise self.refused("output", " or ".join(map(repr, _FORMATS)))
        super().__post_init__()

    def setup(self) -> None:
        """Makes both tables, with the initial values of the released code."""
        draw = uniform(0.5 / self.embed_dim)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        # Of each word, or of each inner node of the tree.
        self.output_embedder = Embed(
            self.vocab_size, self.embed_dim, nn.initializers.zeros, self.dtype
        )

    @property
    def batch_format(self) -> str:
        """Words with noise, or with their paths."""
        return _FORMATS[self.output]

    def make_parameters(self) -> None:
        """Makes the second table."""
        self.output_embedder.output_kernel()

    # Inside `apply`.

    @parts.part(parts.HEAD)
    def summed_loss(self, **features: Any) -> Array:
        """See `WordVectors.summed_loss`.

        Raises:
          ModelError: the batch has no noise, or no paths.
        """
        needed = "noise_tokens" if self.output == "negative_sampling" else "path_nodes"
        if needed not in features:
            raise ModelError(
                f"the batch has {sorted(features)}, but {type(self).__name__} reads {needed}: is "
                f"it a batch of the format '{self.batch_format}'?"
            )
        blocks = Blocks.of(features, self.block_size, self.window)
        x_bnke = self._vectors(self.token_embedder, blocks.context)
        mask_bnsk = blocks.pairs
        if self.output == "negative_sampling":
            noise_bns = blocks.in_blocks(features["noise_tokens"])
            return self.against_noise(x_bnke, mask_bnsk, blocks.words, noise_bns)
        nodes_bnsl = blocks.in_blocks(features["path_nodes"])
        signs_bnsl = blocks.in_blocks(features["path_signs"])
        return self._along_paths(x_bnke, mask_bnsk, nodes_bnsl, signs_bnsl)

    def _vectors(self, table: Embed, tokens: Array) -> Array:
        """Vectors of tokens of any shape whose first axis is the rows, `[..., e]`."""
        x = table(tokens.reshape(tokens.shape[0], -1))
        return x.reshape(*tokens.shape, self.embed_dim)

    def against_noise(
        self, x_bnke: Array, mask_bnsk: Array, words_bns: Array, noise_bnm: Array
    ) -> Array:
        """The words of a block told from its noise.

        Args:
          x_bnke: vectors of the block's words and of those around it.
          mask_bnsk: 1 where one is the context of a word of the block, float32.
          words_bns: the block's words.
          noise_bnm: its noise; 0 is none.
        """
        raise NotImplementedError

    def on_paths(
        self, x_bnke: Array, mask_bnsk: Array, nodes_bnsle: Array, signs_bnsl: Array
    ) -> Array:
        """The words of a block told by the nodes on their paths.

        Args:
          x_bnke: as for `against_noise`.
          mask_bnsk: as for `against_noise`.
          nodes_bnsle: vectors of the nodes.
          signs_bnsl: 1 or -1, 0 where there is no node, float32.
        """
        raise NotImplementedError

    def _along_paths(
        self, x_bnke: Array, mask_bnsk: Array, nodes_bnsl: Array, signs_bnsl: Array
    ) -> Array:
        def of_some(nodes_bnsl: Array, signs_bnsl: Array) -> Array:
            nodes_bnsle = jnp.take(table_ve, nodes_bnsl, axis=0).astype(self.dtype)
            return self.on_paths(x_bnke, mask_bnsk, nodes_bnsle, signs_bnsl.astype(jnp.float32))

        table_ve = self.output_embedder.embedding
        total = jnp.float32(0)
        for start in range(0, nodes_bnsl.shape[-1], _NODES_AT_ONCE):
            some = slice(start, start + _NODES_AT_ONCE)
            nodes, signs = nodes_bnsl[..., some], signs_bnsl[..., some]
            none = lambda *_: jnp.float32(0)  # noqa: E731
            total += jax.lax.cond((signs != 0).any(), of_some, none, nodes, signs)
        return total

    def noise_weights(self, noise_bnm: Array) -> Array:
        """What each word of noise counts, float32 `[b, n, m]`; `negatives` in all of a block."""
        there = (noise_bnm != 0).astype(jnp.float32)
        return there * self.negatives / jnp.maximum(there.sum(-1, keepdims=True), 1)


class SkipGram(Word2Vec):
    """A word told by each word of its context in turn (Mikolov et al. 2013b, equation 1).

    Of a word and one word of its context, the context's vector is the input's, as in the released
    code. The loss is the mean over the pairs.
    """

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """The pairs."""
        return {"loss": Blocks.of(batch, self.block_size, self.window).pairs.sum()}

    def against_noise(
        self, x_bnke: Array, mask_bnsk: Array, words_bns: Array, noise_bnm: Array
    ) -> Array:
        """See `Word2Vec.against_noise`."""
        size = words_bns.shape[-1]
        outputs_bnoe = self._vectors(
            self.output_embedder, jnp.concatenate([words_bns, noise_bnm], axis=-1)
        )
        scores_bnko = _products("bnke,bnoe->bnko", x_bnke, outputs_bnoe)
        told = jax.nn.softplus(-scores_bnko[..., :size]) * jnp.swapaxes(mask_bnsk, -1, -2)
        # How many pairs of a context word are told from this noise: those of other words than it.
        others_bnsm = (words_bns[..., None] != noise_bnm[..., None, :]).astype(jnp.float32)
        times_bnkm = jnp.einsum("bnsk,bnsm->bnkm", mask_bnsk, others_bnsm)
        weights_bnkm = times_bnkm * self.noise_weights(noise_bnm)[..., None, :]
        noise = jax.nn.softplus(scores_bnko[..., size:]) * weights_bnkm
        return told.sum() + noise.sum()

    def on_paths(
        self, x_bnke: Array, mask_bnsk: Array, nodes_bnsle: Array, signs_bnsl: Array
    ) -> Array:
        """See `Word2Vec.on_paths`."""
        scores_bnslk = _products("bnke,bnsle->bnslk", x_bnke, nodes_bnsle)
        there_bnsl = jnp.abs(signs_bnsl)
        told = jax.nn.softplus(-scores_bnslk * signs_bnsl[..., None])
        return (told * there_bnsl[..., None] * mask_bnsk[..., None, :]).sum()


class CBOW(Word2Vec):
    """A word told by the mean of its context, the continuous bag of words (Mikolov et al. 2013a).

    Gradients are those of the mean: each word of a context takes its share. The released code, and
    gensim with `cbow_mean=1`, gives each the whole, and gensim with `cbow_mean=0` the share of a
    context that was summed up. The loss is the mean over the words that have a context.
    """

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """The words that have a context."""
        mask_bnsk = Blocks.of(batch, self.block_size, self.window).pairs
        return {"loss": mask_bnsk.max(axis=-1).sum()}

    def _means(self, x_bnke: Array, mask_bnsk: Array) -> tuple[Array, Array]:
        """The mean of each word's context, `[b, n, s, e]`, and 1 where it has one, float32."""
        count_bns = mask_bnsk.sum(axis=-1)
        shares_bnsk = mask_bnsk / jnp.maximum(count_bns, 1)[..., None]
        h_bnse = _products("bnsk,bnke->bnse", shares_bnsk.astype(x_bnke.dtype), x_bnke)
        return h_bnse.astype(x_bnke.dtype), (count_bns > 0).astype(jnp.float32)

    def against_noise(
        self, x_bnke: Array, mask_bnsk: Array, words_bns: Array, noise_bnm: Array
    ) -> Array:
        """See `Word2Vec.against_noise`."""
        h_bnse, has_bns = self._means(x_bnke, mask_bnsk)
        words_bnse = self._vectors(self.output_embedder, words_bns)
        noise_bnme = self._vectors(self.output_embedder, noise_bnm)
        told_bns = jax.nn.softplus(-_products("bnse,bnse->bns", h_bnse, words_bnse))
        scores_bnsm = _products("bnse,bnme->bnsm", h_bnse, noise_bnme)
        others_bnsm = (words_bns[..., None] != noise_bnm[..., None, :]).astype(jnp.float32)
        weights_bnsm = others_bnsm * self.noise_weights(noise_bnm)[..., None, :]
        noise_bns = (jax.nn.softplus(scores_bnsm) * weights_bnsm).sum(axis=-1)
        return ((told_bns + noise_bns) * has_bns).sum()

    def on_paths(
        self, x_bnke: Array, mask_bnsk: Array, nodes_bnsle: Array, signs_bnsl: Array
    ) -> Array:
        """See `Word2Vec.on_paths`."""
        h_bnse, has_bns = self._means(x_bnke, mask_bnsk)
        scores_bnsl = _products("bnse,bnsle->bnsl", h_bnse, nodes_bnsle)
        told = jax.nn.softplus(-scores_bnsl * signs_bnsl) * jnp.abs(signs_bnsl)
        return (told.sum(axis=-1) * has_bns).sum()


class Blocks:
    """Rows as blocks of consecutive words, each with the words around it.

    Attributes:
      words: int `[b, n, s]`, 0 beyond a row's end.
      context: the words of a block and `window` before and after it, int `[b, n, s + 2 window]`.
      pairs: 1 where the second is in the window of the first, float32 `[b, n, s, s + 2 window]`.
    """

    def __init__(self, words: Array, context: Array, pairs: Array, size: int) -> None:
        self.words, self.context, self.pairs, self._size = words, context, pairs, size

    @classmethod
    def of(cls, features: Mapping[str, Any], size: int, window: int) -> "Blocks":
        """Blocks of so many words, of a batch of words with windows."""
        tokens_bt = features["encoder_input_tokens"]
        size = min(size, tokens_bt.shape[1])
        words, segments, windows = (
            _in_blocks(features[name], size)
            for name in ("encoder_input_tokens", "encoder_segment_ids", "word_windows")
        )
        context, around = (
            _with_surroundings(features[name], size, window)
            for name in ("encoder_input_tokens", "encoder_segment_ids")
        )
        distance_sk = jnp.abs(jnp.arange(size)[:, None] + window - jnp.arange(size + 2 * window))
        reach = jnp.minimum(windows, window)[..., None]
        in_window = (distance_sk > 0) & (distance_sk <= reach)
        in_document = (segments[..., None] == around[..., None, :]) & (segments[..., None] > 0)
        return cls(words, context, (in_window & in_document).astype(jnp.float32), size)

    def in_blocks(self, x: Array) -> Array:
        """`[b, t, ...]` as `[b, n, s, ...]`, 0 beyond a row's end."""
        return _in_blocks(x, self._size)


def _in_blocks(x: Array, size: int) -> Array:
    rows, length = x.shape[:2]
    pad = [(0, 0), (0, -length % size), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(x, pad).reshape(rows, -1, size, *x.shape[2:])


def _with_surroundings(x_bt: Array, size: int, window: int) -> Array:
    length = x_bt.shape[1]
    x_bt = jnp.pad(x_bt, [(0, 0), (window, window + -length % size)])
    starts = jnp.arange(-(-length // size)) * size
    return x_bt[:, starts[:, None] + jnp.arange(size + 2 * window)]


def _products(equation: str, left: Array, right: Array) -> Array:
    """Sums of products in float32."""
    return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)
