"""ALBERT (Lan et al. 2020): BERT with narrow embeddings and one layer that is used again and again.

What the paper leaves open is the released code's: the tanh GELU, the projection of the embeddings
after their norm and dropout, an output as narrow as the embeddings.
"""

from typing import ClassVar

from models.bert import BERT
from models.layers.block import ModuleFactory
from models.layers.stacks.builder import SHARED, TransformerLayers
from models.layers.stacks.stack import Stack

SENTENCE_ORDER = "sentence_order"


class ALBERT(BERT):
    """ALBERT, with both of its heads or fewer; all else is as in `BERT`.

    The head of pairs says whether two segments stand in their order (section 3.1): its term is
    `sentence_order`, its label 1 for those that were swapped. The fields that name the next
    sentence mean this head.

    Attributes:
      embedding_dim: E, narrower than the layers.
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

    def stack_of(self, layers: TransformerLayers, block: ModuleFactory) -> Stack:
        """Layers that share what `shared` says."""
        return layers.shared_stack(self.num_layers, block, self.shared, self.num_groups)
