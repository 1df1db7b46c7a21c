"""Two streams in one stack: content, and queries that attend to it (Yang et al. 2019, 2.3)."""

import jax
import jax.numpy as jnp
from flax import struct

from models.layers.attention.masks import Mask
from models.layers.attention.relative_segments import Segments
from models.layers.block import Context, LayerCache, PostNormBlock


@struct.dataclass
class StreamsContext(Context):
    """What the layers of two streams share.

    Attributes:
      segments: of the content's tokens as queries, and of all keys.
      query_mask: from the query stream to the keys, which are the content's; None where there is
        no such stream. Else it is the second half of what enters a layer.
    """

    segments: Segments | None = None
    query_mask: Mask | None = None


class TwoStreamBlock(PostNormBlock):
    """A layer that both streams pass, with keys and values of the content's alone."""

    def attend_self(
        self, x_bte: jax.Array, context: Context, cache: LayerCache | None
    ) -> tuple[jax.Array, LayerCache | None]:
        """Self-attention of the content, and attention of the query stream to it."""
        assert isinstance(context, StreamsContext)
        count = 1 if context.query_mask is None else 2
        streams = jnp.split(x_bte, count, axis=1)
        keys_values = self.self_attention.keys_values(context.attended(streams[0]))
        found = [
            self.self_attention(
                stream_bte,
                keys_values,
                mask,
                segments=context.segments,
                enable_dropout=context.enable_dropout,
            )
            for stream_bte, mask in zip(streams, (context.mask, context.query_mask), strict=False)
        ]
        return self._dropped(jnp.concatenate(found, axis=1), context), cache
