"""ALBERT (Lan et al. 2020): BERT with narrow embeddings and one layer that is used again and again.

What the paper leaves open is the released code's: the tanh GELU, the projection of the embeddings
after their norm and dropout, an output as narrow as the embeddings.
"""

from typing import ClassVar

from flax import linen as nn

from models.bert import BERT
from models.layers.block import ModuleFactory
from models.layers.linear import Initializer, Linear
from models.layers.stacks.builder import SHARED, TransformerLayers
from models.layers.stacks.stack import Stack
from models.model import Array

SENTENCE_ORDER = "sentence_order"


class ALBERT(BERT):
    """ALBERT, with both of its heads or fewer; all else is as in `BERT`.

    The head of pairs says whether two segments stand in their order (section 3.1): its term is
    `sentence_order`, its label 1 for those that were swapped. The fields that name the next
    sentence mean this head.

    Attributes:
      embedding_dim: E, of the tables, their norm, and the output; None is `embed_dim`, and nothing
        is projected.
      shared: what layers share, of `SHARED` in `layers/stacks/builder.py`.
      num_groups: where they share all, consecutive groups of layers, each with its own parameters.
    """

    vocab_size: int = 30_000
    activation: str = "gelu_tanh"
    embedding_dim: int | None = 128
    shared: str = "all"
    num_groups: int = 1

    pair_term: ClassVar[str] = SENTENCE_ORDER

    def __post_init__(self) -> None:
        """Checks what ALBERT cannot be built with.

        Raises:
          ModelError: an unknown kind of sharing, groups that do not divide the layers or without
            sharing all; and as BERT.
        """
        super().__post_init__()
        if self.shared not in SHARED:
            raise self.refused("shared", f"it must be one of {', '.join(SHARED)}")
        if self.num_groups < 1 or self.num_layers % self.num_groups:
            raise self.refused("num_groups", f"it must divide num_layers, {self.num_layers}")
        if self.num_groups > 1 and self.shared != "all":
            raise self.refused("num_groups", "only layers that share all are in groups")

    def setup(self) -> None:
        """Makes the projection, and what BERT has."""
        super().setup()
        if self.embedding_dim is not None:
            init = nn.initializers.truncated_normal(0.02)
            self.embedding_projection = Linear(
                self.embed_dim, ("embed", "mlp"), init, True, self.dtype
            )

    @property
    def embedding_width(self) -> int:
        """E."""
        return self.embed_dim if self.embedding_dim is None else self.embedding_dim

    def stack_of(self, layers: TransformerLayers, block: ModuleFactory, init: Initializer) -> Stack:
        """Layers that share what `shared` says."""
        return layers.shared_stack(self.num_layers, block, self.shared, self.num_groups)

    def widened(self, x_bse: Array) -> Array:
        """From E to H."""
        if self.embedding_dim is None:
            return x_bse
        x_bse = self.embedding_projection(x_bse)
        return nn.with_logical_constraint(x_bse, ("batch", "length", "embed"))
