"""A word's vector from its characters, by filters of several widths."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from models.layers import parts
from models.layers.characters.highway import Highway
from models.layers.embeddings import Embed
from models.layers.linear import STORED_PRODUCT, Linear, axis_names, normal, uniform


class CharacterCNN(nn.Module):
    """Filters over the vectors of a word's characters, highway layers, and a projection.

    Of each filter the largest value over the word counts (Kim et al. 2016, section 2.2); after that
    come a bias and ReLU. Initial values are those of ELMo's released code (Peters et al. 2018).

    Attributes:
      num_characters: how many characters there are.
      char_dim: size of a character's vector.
      filters: how many there are of width 1, 2, and so on; 0 is none of that width.
      num_highway: highway layers.
      output_dim: size of a word's vector; None leaves the projection out, and it is one number for
        each filter.
      dtype: of the computation and the result; the parameters are float32.
    """

    part: ClassVar[str] = parts.CHARACTERS

    num_characters: int
    char_dim: int
    filters: tuple[int, ...]
    num_highway: int
    output_dim: int | None
    dtype: str = "float32"

    @nn.compact
    def __call__(self, characters_btn: jax.Array) -> jax.Array:
        """Characters, int `[b, t, n]`, to the words' vectors `[b, t, e]`.

        Args:
          characters_btn: as many of each word, at least as many as the widest filter reads.
        """
        *rows, length = characters_btn.shape
        embedder = Embed(
            self.num_characters, self.char_dim, uniform(1.0), self.dtype, "characters",
            name="embedder",
        )  # fmt: skip
        x_wne = embedder(characters_btn.reshape(-1, length))
        counts = enumerate(self.filters, 1)
        found = [self._largest(x_wne, width, count) for width, count in counts if count]
        # What a filter gives along the word is far more than this, and soon computed again.
        x_wf = checkpoint_name(jnp.concatenate(found, axis=-1), STORED_PRODUCT)
        for i in range(self.num_highway):
            x_wf = Highway(self.dtype, name=f"highway_{i}")(x_wf)
        if self.output_dim is None:
            return x_wf.reshape(*rows, -1)
        project = Linear(
            self.output_dim,
            ("mlp", "embed"),
            normal(x_wf.shape[-1] ** -0.5),
            use_bias=True,
            dtype=self.dtype,
            name="projection",
        )
        return project(x_wf).reshape(*rows, self.output_dim)

    def _largest(self, x_wne: jax.Array, width: int, count: int) -> jax.Array:
        """What the filters of a width find in each word, `[w, f]`."""
        init = axis_names((None, "embed", "mlp"), uniform(0.05))
        kernel_nef = self.param(f"filter_{width}", init, (width, x_wne.shape[-1], count))
        zeros = axis_names(("mlp",), nn.initializers.zeros)
        bias_f = self.param(f"filter_{width}_bias", zeros, (count,))
        places = x_wne.shape[1] - width + 1
        # One product over all characters that a filter reads at once.
        windows = jnp.concatenate([x_wne[:, i : i + places] for i in range(width)], axis=-1)
        kernel_if = kernel_nef.reshape(-1, count).astype(self.dtype)
        y_wf = jnp.einsum("wni,if->wnf", windows, kernel_if).max(axis=1)
        return nn.relu(y_wf + bias_f.astype(self.dtype))
