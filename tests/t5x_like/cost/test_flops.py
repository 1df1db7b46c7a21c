"""FLOPs for each token, beside 6 N."""

import json

import pytest

from models.gpt import GPT2
from models.layers.experts.dispatch import Capacity
from models.switch import Switch
from t5x_like import cli
from t5x_like.cost.flops import flop_report, positions


def test_a_decoder_by_hand():
    e, t, v, layers = 24, 16, 61, 2
    model = GPT2(vocab_size=v, embed_dim=e, num_heads=3, num_layers=layers, max_length=t)
    report = flop_report(model, {"decoder_input_tokens": (5, t), "decoder_target_tokens": (5, t)})
    # A token: 12 e² multiplications a layer, two products of e with 16 keys (8.5 in the mean
    # where a causal mask hides the later ones), and e v for its logits.
    forward = layers * (2 * 12 * e * e + 4 * 16 * e) + 2 * e * v
    needed = layers * (2 * 12 * e * e + 4 * 8.5 * e) + 2 * e * v
    assert report.step == pytest.approx(3 * forward)
    assert report.step_needed == pytest.approx(3 * needed)
    # Matrices and their biases, two norms a layer and one at the end; tokens and positions.
    inner = layers * (12 * e * e + 9 * e + 4 * e) + 2 * e
    total = inner + (v + t) * e
    assert report.parameters == {
        "total": total,
        "total_without_embeddings": inner,
        "active": total,
        "active_without_embeddings": inner,
    }
    assert report.six_n["total_without_embeddings"] == 6 * inner
    assert report.ratios["active"] == pytest.approx(3 * forward / (6 * total))
    # Nothing but norms, biases and attention keeps the layers' matrices from 6 N.
    matrices = report.forward["attention_projections"] + report.forward["mlp"]
    assert 3 * matrices == 6 * layers * 12 * e * e


@pytest.mark.slow
def test_experts_that_a_token_does_not_meet_are_apart():
    sizes = dict(vocab_size=61, embed_dim=24, mlp_dim=40, num_heads=3, head_dim=8)
    model = Switch(
        num_encoder_layers=2, num_decoder_layers=2, num_experts=4,
        dispatch=Capacity(train_factor=1.25), **sizes,
    )  # fmt: skip
    shapes = {"encoder_input_tokens": (1, 16), "decoder_input_tokens": (1, 16)}
    report = flop_report(model, shapes)
    # 1 + 1 layers of experts, of which 3 of 4 are idle: 3 matrices of 24 × 40 each.
    idle = 2 * 3 * 3 * 24 * 40
    counts = report.parameters
    assert counts["total"] - counts["active"] == idle
    assert counts["total_without_embeddings"] - counts["active_without_embeddings"] == idle
    # A token meets an expert in every other layer of one side; a quarter of the slots is more.
    assert report.forward_needed["experts"] == 2 * 3 * 24 * 40
    assert report.forward["experts"] == 1.25 * report.forward_needed["experts"]


def test_a_token_is_a_position_of_either_side():
    shapes = {name: (4, 6) for name in ("decoder_input_tokens", "decoder_target_tokens")}
    assert positions(shapes) == 24
    assert positions({**shapes, "encoder_input_tokens": (4, 10)}) == 64


@pytest.mark.slow
def test_inspect_shows_them_by_part_and_beside_6n(capsys):
    file = "--gin_file=models/gpt3/tiny.gin"
    assert cli.main(["inspect", file, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    flops = report["flops"]
    assert 3 * sum(flops["forward"].values()) == pytest.approx(report["flops_per_token"])
    assert flops["step"] == flops["backward"] * 1.5 == report["flops_per_token"]
    assert report["six_nd_ratio"] == pytest.approx(
        report["flops_per_token"] / (6 * report["active_parameters"])
    )
    assert cli.main(["inspect", file]) == 0
    text = capsys.readouterr().out
    for line in ("attention scores", "forward and backward", "total without embeddings"):
        assert f"\n  {line}" in text
