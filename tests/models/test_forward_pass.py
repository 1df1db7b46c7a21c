"""The forward pass that the documentation shows is the one that is run."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.llama import LLaMA

PAGE = Path(__file__).parents[2] / "docs" / "forward_pass.md"


@pytest.mark.slow
def test_the_page_computes_what_llama_computes():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page: dict = {}
    exec(code, page)
    model = LLaMA(vocab_size=61, embed_dim=24, num_heads=3, num_layers=2, mlp_dim=40)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        # Large enough for attention to be far from even.
        lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype),
        jax.eval_shape(model.init, jax.random.key(0))["params"],
    )
    tokens = jnp.asarray(rng.integers(1, 61, 13))

    shown = page["forward"](params, tokens, num_heads=3)
    run = jax.jit(model.logits)(params, {"decoder_input_tokens": tokens[None]})[0]
    assert np.std(run) > 0.1
    np.testing.assert_allclose(shown, run, rtol=0, atol=1e-5)
    # Both are far from what other positions would give.
    page["rotate"] = lambda x: x
    assert np.abs(page["forward"](params, tokens, num_heads=3) - run).max() > 1e-2


def test_every_file_that_the_page_names_is_there():
    text = PAGE.read_text()
    named = re.findall(r"`(models/[\w/]+\.py)`", text)
    assert len(named) >= 8
    assert all((PAGE.parents[1] / name).is_file() for name in named)
