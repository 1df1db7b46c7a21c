"""DistilBERT (Sanh et al. 2019): half of BERT's layers, which a whole BERT teaches."""

from typing import ClassVar

from flax import linen as nn

from models.bert import BERT
from models.encoder_only import first_token
from models.layers import parts
from models.model import Array


class DistilBERT(BERT):
    """BERT without types of segments and without a pooler (section 3, "Student architecture").

    The model alone, with the loss of hidden tokens; what a teacher adds is not here.

    Attributes:
      num_layers: half of the teacher's.
      num_token_types: 0: the batch's types are not read.
      use_pooler: off; a row is summed up by its first token's vector as it is, but for a `head`.
      use_next_sentence_head: off.
    """

    # Elsewhere a table without rows is a mistake.
    offsets: ClassVar[tuple[str, ...]] = (*BERT.offsets, "num_token_types")

    num_layers: int = 6
    num_token_types: int = 0
    use_pooler: bool = False
    use_next_sentence_head: bool = False

    @parts.part(parts.HEAD)
    def pooled(self, x_bse: Array, enable_dropout: bool = False) -> Array:
        """The first token's vector through a layer with ReLU, which only a head for rows has."""
        return nn.relu(self.pooler(first_token(x_bse)))
