"""MASS (Song et al. 2019): the decoder writes the span that is masked in the encoder.

The network is that of `bart.py`: learned positions, a norm after the embeddings, post-norm
layers with GELU. What is MASS's own is in the batch that `tasks.objectives.MASS` makes: the
decoder is given nothing but the masked span, and `decoder_positions` say where in the sentence
its tokens stood (section 3.1), so that it must look at the encoder for the rest.
"""

from models.bart import BART


class MASS(BART):
    """MASS, by default in the size of the released base model: 6+6 layers of 768 units.

    Attributes:
      max_length: longest sentence; a span's positions are those within the sentence.
    """

    max_length: int = 512
    position_offset: int = 0
