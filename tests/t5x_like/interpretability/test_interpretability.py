"""Attention maps and routing of texts, on real models with random parameters."""

import jax
import numpy as np
import pytest

from models.attention_seq2seq import AttentionSeq2Seq
from models.gpt import GPT2
from models.layers.experts.dispatch import Capacity
from models.recurrent import RecurrentLM
from models.switch import MoE, Switch
from models.t5 import T5_1_1
from t5x_like import interpretability
from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from tests.t5x_like.letters import Feature

VOCABULARY = 32


CONTINUING = TextCodec(None, Feature(), False)
ANSWERING = TextCodec(Feature(), Feature(), False)
PREFIX = TextCodec(Feature(), Feature(), True)


def decoder(**options):
    sizes = dict(vocab_size=VOCABULARY, embed_dim=16, num_heads=2, num_layers=3, max_length=8)
    return GPT2(**(sizes | options))


def encoder_decoder(cls=T5_1_1, **options):
    sizes = dict(
        vocab_size=VOCABULARY, embed_dim=16, mlp_dim=24, num_heads=2, head_dim=8,
        num_encoder_layers=4, num_decoder_layers=2, num_buckets=8, max_distance=9,
    )  # fmt: skip
    return cls(**(sizes | options))


def drawn(model):
    """Large enough for every part to matter."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    return jax.tree.map(lambda leaf: np.float32(0.5 * rng.normal(size=leaf.shape)), shapes)


def test_a_decoder_attends_to_itself_and_what_came_before():
    model = decoder()
    short, long = interpretability.attention_maps(model, drawn(model), CONTINUING, ["cab", "zebra"])
    assert short.decoder_tokens == ["<0>", "c", "a", "b"]
    assert short.decoder.shape == (3, 2, 4, 4) and long.decoder.shape == (3, 2, 6, 6)
    assert short.encoder is None and short.cross is None
    for found in (short, long):
        np.testing.assert_allclose(found.decoder.sum(-1), 1, rtol=1e-5)
        assert (np.triu(found.decoder, k=1) == 0).all()
        assert (np.tril(found.decoder) > 0)[:, :, -1].all()


def test_maps_and_routing_are_one_short_line_in_a_notebook():
    maps = interpretability.AttentionMaps(
        decoder_tokens=["<0>", *"abcdefghijklmnopqrstuvwxyz"], decoder=np.zeros((3, 2, 27, 27))
    )
    shown = "AttentionMaps(27 decoder_tokens '<0>abcdefghijklmnopqrst…, decoder [3, 2, 27, 27])"
    assert repr(maps) == shown
    routing = interpretability.Routing([None] * 1200, num_experts=8)
    assert repr(routing) == "Routing(1,200 choices among 8 experts)"


def test_padding_changes_nothing():
    model = decoder()
    params = drawn(model)
    alone = interpretability.attention_maps(model, params, CONTINUING, ["ab"])[0]
    beside = interpretability.attention_maps(model, params, CONTINUING, ["zebra", "ab"])[1]
    np.testing.assert_allclose(alone.decoder, beside.decoder, rtol=1e-5)


def test_a_prefix_is_seen_in_both_directions():
    model = decoder()
    found = interpretability.attention_maps(model, drawn(model), PREFIX, ["ab"], ["cd"])[0]
    # The start token, a, b and the end of the input; then c and d.
    assert found.decoder_tokens == ["<0>", "a", "b", "<1>", "c", "d"]
    assert (found.decoder[:, :, :4, :4] > 0).all()
    assert (found.decoder[:, :, :4, 4:] == 0).all() and (found.decoder[:, :, 4, 5] == 0).all()


def test_an_encoder_decoder_has_three_kinds_of_attention():
    model = encoder_decoder()
    found = interpretability.attention_maps(
        model, drawn(model), ANSWERING, ["abc", "a"], ["xy", "xyz"]
    )[0]
    assert found.encoder_tokens == ["a", "b", "c", "<1>"]
    assert found.decoder_tokens == ["<0>", "x", "y"]
    assert found.encoder.shape == (4, 2, 4, 4)
    assert found.decoder.shape == (2, 2, 3, 3)
    assert found.cross.shape == (2, 2, 3, 4)
    for weights in (found.encoder, found.decoder, found.cross):
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_weights_depend_on_the_layer_and_are_in_its_order():
    """With queries of 0 a layer attends to all keys alike."""
    model = decoder()
    params = drawn(model)
    query = params["decoder"]["layers"]["self_attention"]["query"]
    params["decoder"]["layers"]["self_attention"]["query"] = jax.tree.map(
        lambda leaf: leaf * np.array([1, 0, 1]).reshape(3, *[1] * (leaf.ndim - 1)), query
    )
    last = interpretability.attention_maps(model, params, CONTINUING, ["abc"])[0].decoder[:, :, -1]
    np.testing.assert_allclose(last[1], 0.25, rtol=1e-6)
    assert (np.abs(last[[0, 2]] - 0.25).max(-1) > 1e-3).all()


@pytest.mark.slow
def test_every_token_of_every_expert_layer_has_a_row():
    """Of four encoder and two decoder layers, the second of each pair has experts."""
    model = encoder_decoder(Switch, num_experts=4)
    found = interpretability.routing(model, drawn(model), ANSWERING, ["abc", "a"], ["xy", "xyz"])
    assert list(found.loads.index) == [("decoder", 1), ("encoder", 1), ("encoder", 3)]
    of_layer = found.tokens[(found.tokens["side"] == "encoder") & (found.tokens["layer"] == 3)]
    assert list(of_layer["token"]) == ["a", "b", "c", "<1>", "a", "<1>"]
    assert list(of_layer["text"]) == [0] * 4 + [1] * 2
    assert list(of_layer["position"]) == [0, 1, 2, 3, 0, 1]
    np.testing.assert_allclose(found.loads.sum(axis=1), 1)
    assert list(found.loads.columns) == [0, 1, 2, 3]
    # One expert of four, the likeliest.
    assert (of_layer["probability"] >= 0.25).all()
    np.testing.assert_allclose(of_layer["gate"], of_layer["probability"])


@pytest.mark.slow
def test_dropped_is_what_found_no_room():
    """Ten tokens of two padded rows, all to one expert.

    8 positions of 2 rows are 16 tokens; 16 / 4 × 1 are 4 slots, for the first two positions of
    both rows. Of the 4 + 2 tokens that are no padding, the last two of the first find no room.
    """
    model = encoder_decoder(Switch, num_experts=4, dispatch=Capacity(eval_factor=1.0))
    params = drawn(model)

    def even(path, leaf):
        return leaf * 0 if any(key.key == "router" for key in path) else leaf

    params = jax.tree_util.tree_map_with_path(even, params)
    found = interpretability.routing(model, params, ANSWERING, ["abc", "a"])
    assert (found.tokens["expert"] == 0).all()
    assert found.dropped[("encoder", 1)] == pytest.approx(2 / 6)
    assert found.loads.loc[("encoder", 1)].tolist() == [1, 0, 0, 0]
    lost = found.tokens[~found.tokens["served"] & (found.tokens["layer"] == 3)]
    assert list(lost["token"]) == ["c", "<1>"]


@pytest.mark.slow
def test_two_choices_are_two_rows():
    model = encoder_decoder(MoE, num_experts=4)
    found = interpretability.routing(model, drawn(model), ANSWERING, ["ab"])
    of_layer = found.tokens[(found.tokens["side"] == "encoder") & (found.tokens["layer"] == 1)]
    assert list(of_layer["choice"]) == [0, 1] * 3
    first, second = (of_layer[of_layer["choice"] == i]["expert"].to_numpy() for i in (0, 1))
    assert (first != second).all()
    np.testing.assert_allclose(of_layer.groupby("position")["gate"].sum(), 1, rtol=1e-6)


def test_favourites_are_what_sets_an_expert_apart():
    """Expert 0 gets all four a and one of two b; expert 1 the other b and both c."""
    import pandas as pd

    tokens = pd.DataFrame(
        [
            {"side": "encoder", "layer": 1, "token": token, "expert": expert, "served": True}
            for token, expert in [*[("a", 0)] * 4, ("b", 0), ("b", 1), *[("c", 1)] * 2]
        ]
    )
    liked = interpretability.Routing(tokens, 2).favourites("encoder", 1)
    # Expert 0 has 5/8 of the tokens: a is there 1 / (5/8) as often as by chance, b less often.
    assert liked[["expert", "token", "times"]].to_numpy().tolist() == [
        [0, "a", 4], [1, "c", 2], [1, "b", 1],
    ]  # fmt: skip
    assert liked["share"].tolist() == [1, 1, 0.5]
    assert liked["lift"].tolist() == pytest.approx([8 / 5, 8 / 3, 4 / 3])
    with pytest.raises(UserError, match="no experts in decoder 0: they are in encoder 1"):
        interpretability.Routing(tokens, 2).favourites("decoder", 0)


@pytest.mark.parametrize(
    ("look", "texts", "targets", "message"),
    [
        (interpretability.routing, ["ab"], None, "GPT2 has no experts"),
        (
            interpretability.attention_maps,
            ["abcdefgh"],
            None,
            "9 tokens, where the model has 8 positions",
        ),
        (interpretability.attention_maps, [], None, "no text"),
        (interpretability.attention_maps, ["a", "b"], ["c"], "1 targets were given for 2 texts"),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_one_line(look, texts, targets, message):
    model = decoder()
    with pytest.raises(UserError, match=message):
        look(model, drawn(model), CONTINUING, texts, targets)


def test_a_recurrent_model_has_no_attention_to_show():
    model = RecurrentLM(vocab_size=VOCABULARY, embed_dim=8, hidden_dim=8)
    with pytest.raises(UserError, match="RecurrentLM has no attention to show"):
        interpretability.attention_maps(model, drawn(model), CONTINUING, ["ab"])


def test_a_recurrent_decoder_shows_how_it_aligns_target_and_source():
    model = AttentionSeq2Seq(
        vocab_size=VOCABULARY, embed_dim=4, encoder_dim=3, hidden_dim=4, maxout_dim=3
    )
    found = interpretability.attention_maps(model, drawn(model), ANSWERING, ["abc", "a"], ["x"] * 2)
    assert found[0].encoder is None and found[0].decoder is None
    assert found[0].cross.shape == (1, 1, 2, 4) and found[1].cross.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(found[0].cross.sum(-1), 1, rtol=1e-5)
