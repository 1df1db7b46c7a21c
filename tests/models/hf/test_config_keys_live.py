"""Whatever option is changed, logits are those of `transformers`, or the option is refused."""

import functools
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.hf import load_hf
from tests.models.hf.config_keys import (
    EARLIER,
    FIXTURES,
    HERE,
    SEVERAL,
    built,
    changed,
    changes,
    keys_of,
    without_rotation,
    written,
)  # fmt: skip


@functools.cache
def fixtures_module():
    """`make_fixtures.py`, without its being a package."""
    spec = importlib.util.spec_from_file_location("make_fixtures", HERE / "make_fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.interop
@pytest.mark.parametrize("model_type", sorted(set(FIXTURES) - set(EARLIER)))
def test_the_table_has_every_option_of_the_class(model_type):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(model_type)
    names = {*config.to_dict(), *config.attribute_map} - {"model_type"}
    assert names == set(keys_of(model_type))


# Refused although `transformers` computes the same logits.
DELIBERATE = {
    # Generation would fail there.
    ("t5", "is_encoder_decoder"), ("switch_transformers", "is_encoder_decoder"),
    ("bart", "is_encoder_decoder"),
    # They say something else than `dense_act_fn` and the steps, which overrule them.
    ("t5", "feed_forward_proj"), ("switch_transformers", "num_sparse_encoder_layers"),
    ("switch_transformers", "num_sparse_decoder_layers"),
    # With 2 layers as many steps say the same; here both sides have one.
    ("switch_transformers", "decoder_sparse_step"),
    # No room for a token.
    ("llama", "max_position_embeddings"), ("gpt_neox", "max_position_embeddings"),
    ("deberta", "max_position_embeddings"),
    # Versions before 5.0 turn a part of each head.
    ("llama", "rope_parameters"),
    # Of the legacy head alone.
    ("deberta", "tie_word_embeddings"),
    # Its sparse attention reads in both directions all the same; its full attention would not.
    ("big_bird", "is_decoder"),
    # Layers that this model does not have, and that nothing is given to.
    ("gpt2", "add_cross_attention"),
    # Of attention that sees no later token alone; and no token that pads.
    ("xlnet", "same_length"), ("xlnet", "pad_token_id"),
}  # fmt: skip


class Theirs:
    """A fixture in `transformers`, with options changed."""

    def __init__(self, model_type):
        self.made = fixtures_module().FAMILIES[FIXTURES[model_type]]()
        saved = self.made.state_dict().keys() & dict(self.made.named_buffers())
        self.state = dict(self.made.named_parameters())
        self.state |= {name: self.made.get_buffer(name) for name in saved}
        self.batch = fixtures_module().random_batch(self.made, rows=2)
        encodes = model_type in fixtures_module().ENCODERS
        name = "encoder" if encodes else "decoder"
        shape = self.batch[f"{name}_input_tokens"].shape
        self.real = np.asarray(self.batch.get(f"{name}_segment_ids", np.ones(shape))) != 0

    def logits(self, config):
        """None where it cannot be made with these weights."""
        import torch

        try:
            made = type(self.made)(type(self.made.config).from_dict(dict(config))).eval()
            report = made.load_state_dict(self.state, strict=False)
            tied = getattr(made, "all_tied_weights_keys", {})
            if report.unexpected_keys or set(report.missing_keys) - set(tied):
                return None
            with torch.no_grad():
                found = fixtures_module().forward(made, self.batch)
        except (
            ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, RuntimeError,
            TypeError, ValueError,
        ):  # fmt: skip
            return None
        except Exception as error:  # of its own kind, from a base class that it does not export
            if "Validation" in type(error).__name__:
                return None
            raise
        return found[self.real]


class Ours:
    """The same tensors here, with options changed; None where they are refused."""

    def __init__(self, model_type, directory, theirs):
        self.model_type, self.directory, self.real = model_type, directory, theirs.real
        self.batch = {name: jnp.asarray(x) for name, x in theirs.batch.items()}
        self.known = {}
        tensors = HERE / "fixtures" / FIXTURES[model_type] / "model.safetensors"
        (directory / "model.safetensors").write_bytes(tensors.read_bytes())

    def logits(self, config):
        model = built(self.model_type, config)
        if isinstance(model, str):
            return None
        if model not in self.known:
            self.known[model] = self.computed(config)
        return self.known[model]

    def computed(self, config):
        (self.directory / "config.json").write_text(json.dumps(config))
        try:
            loaded, params = load_hf(self.directory)
        except ModelError:
            return None
        run = jax.jit(functools.partial(loaded.apply, **self.batch))
        return np.asarray(run({"params": params}))[self.real]


# Of each kind one; the others are a release's, and that of a change of theirs.
IN_CI = ("bert", "gpt2", "llama", "t5")


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=() if name in IN_CI else pytest.mark.release)
        for name in sorted(set(FIXTURES) - set(EARLIER))
    ],
)
def test_logits_are_those_of_transformers_whatever_option_is_changed(model_type, tmp_path):
    pytest.importorskip("transformers")
    theirs = Theirs(model_type)
    ours = Ours(model_type, tmp_path, theirs)
    config = written(model_type)[0]
    base = theirs.logits(config)
    assert np.abs(ours.logits(config) - base).max() <= 1e-4
    wrong, needless = [], []
    for key, other in changes(model_type):
        one = changed(model_type, {key: other})
        expected, found = theirs.logits(one), ours.logits(one)
        if found is None:
            same = expected is not None and np.abs(expected - base).max() <= 1e-6
            if same and (model_type, key) not in DELIBERATE:
                needless.append((key, other))
        elif np.abs(found - (base if expected is None else expected)).max() > 1e-4:
            wrong.append((key, other))
    assert not wrong
    assert not needless


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("model_type", sorted({case[0] for case in SEVERAL}))
def test_transformers_reads_the_same_names_and_places(model_type, tmp_path):
    pytest.importorskip("transformers")
    theirs = Theirs(model_type)
    ours = Ours(model_type, tmp_path, theirs)
    for options in (case[1] for case in SEVERAL if case[0] == model_type):
        config = without_rotation(model_type, options)
        found, expected = ours.logits(config), theirs.logits(config)
        # Both may find that the fixture's tensors are of another model.
        assert (found is None) == (expected is None), options
        assert found is None or np.abs(found - expected).max() <= 1e-4, options
