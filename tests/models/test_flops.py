"""FLOPs by part, worked by hand, against XLA's own count and against a published table."""

from typing import ClassVar

import gin
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from models import flops
from models.attention_seq2seq import AttentionSeq2Seq
from models.cvt import CVT
from models.gopher import Gopher
from models.gpt import GPT2, GPT3
from models.heads import Tagging
from models.layers import parts
from models.layers.attention import softmax_attention
from models.layers.attention.masks import Mask
from models.layers.experts.dispatch import Capacity
from models.recurrent import RecurrentLM
from models.switch import MoE, Switch
from models.t5 import T5_1_1
from models.tuning import Adapters, LoRA, Parts
from t5x_like.config.gin_files import packaged_gin_configs

V = 61


def decoder_row(length, rows=1):
    return {"decoder_input_tokens": (rows, length)}


def both_sides(source, target, rows=1):
    return {"encoder_input_tokens": (rows, source), "decoder_input_tokens": (rows, target)}


def test_gpt2_by_hand():
    # e 24, four times as many in the MLP, 3 heads of 8; a row of t = 16, 2 layers.
    e, t, layers = 24, 16, 2
    model = GPT2(vocab_size=V, embed_dim=e, num_heads=3, num_layers=layers, max_length=t)
    assert model.forward_flops(decoder_row(t)) == {
        "attention_projections": (layers * 2 * t * 4 * e * e,) * 2,
        "mlp": (layers * 2 * t * 8 * e * e,) * 2,
        # Two products of e; query i meets i keys, 1 + 2 + ... + 16 = 136 of 256 pairs.
        "attention_scores": (layers * 4 * e * 256, layers * 4 * e * 136),
        "head": (2 * t * e * V,) * 2,
    }


def test_gpt3s_banded_layers_need_a_band_only():
    e, t, band = 24, 16, 4
    model = GPT3(vocab_size=V, embed_dim=e, num_heads=3, num_layers=4, max_length=t, band=band)
    # In the band 1 + 2 + 3 keys, then 4 for each of the other 13 queries.
    pairs = 2 * 136 + 2 * (6 + 13 * 4)
    scores = model.forward_flops(decoder_row(t))["attention_scores"]
    assert scores == (4 * 4 * e * 256, 4 * e * pairs)


def test_t5_by_hand():
    """The encoder sees all, the decoder what came before, and of the encoder all."""
    e, ff, inner, s, t = 24, 40, 3 * 8, 12, 5
    model = T5_1_1(
        vocab_size=V, embed_dim=e, mlp_dim=ff, num_heads=3, head_dim=8,
        num_encoder_layers=2, num_decoder_layers=3,
    )  # fmt: skip
    rows = 7
    expected = {
        # Cross-attention projects its queries and results at t positions, keys and values at s.
        "attention_projections": (2 * 4 * s + 3 * 4 * t + 3 * 2 * (s + t)) * 2 * e * inner,
        "mlp": (2 * s + 3 * t) * 2 * 3 * e * ff,
        "attention_scores": (2 * s * s + 3 * t * t + 3 * s * t) * 4 * inner,
        "head": t * 2 * e * V,
    }
    counted = model.forward_flops(both_sides(s, t, rows))
    assert {name: part.full for name, part in counted.items()} == {
        name: rows * products for name, products in expected.items()
    }
    hidden = 3 * (t * t - t * (t + 1) // 2) * 4 * inner
    assert counted["attention_scores"].needed == rows * (expected["attention_scores"] - hidden)


def test_a_recurrent_layer_counts_every_turn_of_its_loop():
    """For each token and layer 2·4h(i + h): four gates read the input and the hidden state."""
    v, i, h, t, rows = 61, 24, 40, 16, 3
    model = RecurrentLM(vocab_size=v, embed_dim=i, hidden_dim=h, num_layers=2)
    counted = model.forward_flops(decoder_row(t, rows))
    layers = 2 * 4 * h * (i + h) + 2 * 4 * h * (h + h)
    assert counted == {
        "recurrence": (rows * t * layers,) * 2,
        "head": (rows * t * 2 * h * v,) * 2,
    }
    # So the cost of a token does not depend on the length of its row.
    step = model.step_flops(decoder_row(t, rows))
    assert model.step_flops(decoder_row(5 * t, rows)) == 5 * step


# What came before the Transformer, and the character Transformer.
RECURRENT = ["rnn/tiny", "lstm/tiny", "gru/tiny", "attention_seq2seq/tiny", "elmo/tiny", "cvt/tiny"]
EARLY = [*RECURRENT, "attention_seq2seq/tiny_luong", "nnlm/tiny", "char_transformer/t12"]


@pytest.mark.parametrize("size", EARLY)
def test_a_loop_over_time_is_counted_as_xla_counts_the_turns_one_by_one(size):
    model = early(size)
    if "scan_unroll" in model.__dataclass_fields__:  # of a loop XLA counts one turn
        model = model.clone(scan_unroll=max(8, model.scan_unroll))
    batch = shaped(model, 8)
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    counted = model.forward_flops({feature: x.shape for feature, x in batch.items()})
    # The auxiliary heads of cross-view training are a part of its forward pass.
    method = "all_logits" if isinstance(model, CVT) else None
    forward = jax.jit(lambda params, batch: model.apply({"params": params}, **batch, method=method))
    total = sum(part.full for part in counted.values())
    assert total == pytest.approx(forward.lower(params, batch).cost_analysis()["flops"], rel=0.02)


@pytest.mark.parametrize(
    "size",
    [x if x == "lstm/tiny" else pytest.param(x, marks=pytest.mark.slow) for x in RECURRENT],
)
def test_the_program_of_a_step_does_not_grow_with_the_length_of_rows(size):
    """Time is scanned, so that compiling does not take longer with it."""
    model = early(size)
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]

    def loss(params, batch):
        return sum(jax.tree.leaves(model.loss(params, batch)[0]))

    step = jax.make_jaxpr(jax.grad(loss))
    # An equation of a printed program, loops and functions included, has one " = ".
    sizes = [str(step(params, shaped(model, t))).count(" = ") for t in (16, 64, 256)]
    # Where segments end is found by an associative scan, which has a level for each doubling.
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] < 0.1 * sizes[0]


def early(size):
    model = published(f"models/{size}.gin")
    return model.clone(head=Tagging(("O", "B-x", "I-x"))) if isinstance(model, CVT) else model


def test_attention_of_a_recurrent_decoder_by_hand():
    """`W s` once a token; `v · tanh(…)` and the mean for each pair of target and source."""
    t, s, f, e, a = 5, 7, 32, 28, 32
    model = AttentionSeq2Seq(vocab_size=V, embed_dim=24, encoder_dim=14, hidden_dim=f)
    counted = model.forward_flops(both_sides(s, t, rows=3))["attention_scores"]
    assert counted.full == 3 * (t * 2 * f * a + t * s * (2 * a + 2 * e))


def test_gophers_distances_are_projected_once_for_all_rows():
    e, t, rows = 24, 16, 5
    model = Gopher(vocab_size=V, embed_dim=e, num_heads=3, head_dim=8, num_layers=2)
    # 2 t - 1 distances, by W of e²; then each query meets each of them.
    projected, distances = 2 * (2 * t - 1) * e * e, 2 * t - 1
    assert model.forward_flops(decoder_row(t, rows))["relative_positions"] == (
        2 * (projected + rows * 2 * t * distances * e),
        2 * (projected + rows * 2 * 136 * e),
    )


@pytest.mark.parametrize(("cls", "chosen"), [(Switch, 1), (MoE, 2)])
def test_only_full_slots_of_experts_are_needed(cls, chosen):
    e, ff, experts, s = 24, 40, 4, 16
    model = cls(
        vocab_size=V, embed_dim=e, mlp_dim=ff, num_heads=3, head_dim=8, num_encoder_layers=2,
        num_decoder_layers=2, num_experts=experts, dispatch=Capacity(train_factor=1.25),
    )  # fmt: skip
    counted = model.forward_flops(both_sides(s, s))
    # One of two layers on each side; capacity 16 / 4 × 1.25 = 5 slots for each choice of a token.
    assert counted["experts"] == (
        2 * experts * 5 * chosen * 3 * 2 * e * ff,
        2 * s * chosen * 3 * 2 * e * ff,
    )
    assert counted["router"] == (2 * s * 2 * e * experts,) * 2
    assert counted["mlp"] == (2 * s * 3 * 2 * e * ff,) * 2


class Wave(nn.Module):
    """A linear recurrence over time, and a product that no part claims. Widths are 6."""

    part: ClassVar[str] = "ripples"

    @nn.compact
    def __call__(self, x_bte):
        matrix = self.param("w", nn.initializers.ones, (6, 6))

        def turn(state_be, x_be):
            state_be = state_be @ matrix + x_be
            return state_be, state_be

        _, y_tbe = jax.lax.scan(turn, x_bte[:, 0], x_bte.swapaxes(0, 1))
        return y_tbe.swapaxes(0, 1)


@parts.part("answer")
def answered(x_bte, matrix):
    return x_bte @ matrix


class Sea(nn.Module):
    """Four waves by a scan over layers, under names that are found nowhere else."""

    @nn.compact
    def __call__(self, x_bte):
        scanned = nn.scan(
            lambda wave, x_bte, _: (wave(x_bte), None),
            variable_axes={"params": 0}, split_rngs={"params": True}, length=4,
        )  # fmt: skip
        x_bte, _ = scanned(Wave(name="swell"), x_bte, None)
        return answered(nn.Dense(6, use_bias=False, name="beach")(x_bte), jnp.ones((6, 9)))


def test_parts_are_what_modules_say_and_scans_over_time_and_layers_count_their_length():
    rows, t, layers = 2, 5, 4
    x_bte = jax.ShapeDtypeStruct((rows, t, 6), jnp.float32)
    variables = jax.eval_shape(Sea().init, jax.random.key(0), x_bte)
    assert flops.matmul_flops(Sea().apply, variables, x_bte) == {
        "ripples": (layers * t * rows * 2 * 6 * 6,) * 2,
        "other": (rows * t * 2 * 6 * 6,) * 2,
        "answer": (rows * t * 2 * 6 * 9,) * 2,
    }


def test_what_a_function_says_of_its_products_counts_and_what_has_none_is_not_counted():
    @parts.part("guess", full=lambda x, _: 7.0 * x.size, needed=lambda x, rows: (1, rows))
    @jax.jit
    def guess(x, rows):
        return (x @ x) * rows

    def both(x):
        # The second has no product: it stands for what a scan takes out of its body.
        return guess(x, 4), parts.part("guess", full=lambda x: 99.0)(jax.jit(jnp.sin))(x)

    x = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    assert flops.matmul_flops(both, x) == {"guess": (63.0, 63.0 / 4)}


@pytest.mark.parametrize(
    "mask",
    [
        Mask(),
        Mask(causal=True),
        Mask(causal=True, window=3),
        Mask(causal=True, window=1),
        Mask(causal=True, window=99),
    ],
)
@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (3, 7), (9, 7)])
def test_visible_pairs_are_those_of_the_dense_mask(mask, queries, keys):
    dense = mask.dense((0, queries), (0, keys))
    pairs = queries * keys if dense is None else int(dense.sum())
    assert mask.visible_pairs(queries, keys) == pairs


def test_what_is_known_at_run_time_only_hides_nothing():
    prefix = Mask(causal=True, prefix_bt=jnp.ones((1, 4), bool))
    assert prefix.visible_pairs(4, 4) == 16
    assert Mask(causal=True, first_query=jnp.int32(3)).visible_pairs(1, 8) == 8


# -- Against XLA -----------------------------------------------------------------------------------

# Published sizes, and the length of their rows.
SIZES = {
    "models/gpt2/124m.gin": 1024,
    "models/gopher/44m.gin": 2048,
    "models/t5_1_0/base.gin": 512,
    "models/t5_1_1/small.gin": 512,
    "models/llama/6.7b.gin": 2048,
    "models/palm/8b.gin": 2048,
    "models/pythia/160m.gin": 2048,
    "models/lamda/137b.gin": 1024,
}


def published(name):
    gin.clear_config()
    try:
        gin.parse_config_file(str(packaged_gin_configs() / name))
        model = gin.query_parameter("MODEL/macro.value").__deepcopy__({})
    finally:
        gin.clear_config()
    layers = max(getattr(model, "num_layers", 1), getattr(model, "num_encoder_layers", 1))
    # Of a loop XLA counts one turn.
    settings = {"scan_unroll": layers, "remat_policy": "none", "logit_chunks": 1}
    fields = model.__dataclass_fields__
    return model.clone(**{name: x for name, x in settings.items() if name in fields})


def shaped(model, length):
    rows = 3
    names = ["decoder_input_tokens", "decoder_target_tokens"]
    if model.batch_format == "encoder_decoder":
        names.append("encoder_input_tokens")
    shapes = {name: (rows, length) for name in names}
    if "spelled" in model.batch_format:
        names = ["encoder_input_tokens", "encoder_segment_ids", "encoder_loss_weights"]
        names += ["word_begins", "word_labels", "word_weights"]
        shapes = {name: (rows, length) for name in names}
        shapes["encoder_characters"] = (rows, length, 50)
    return {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in shapes.items()}


@pytest.fixture
def attention_in_one_block(monkeypatch):
    """So that XLA, too, counts every pair of query and key."""
    monkeypatch.setattr(softmax_attention, "QUERY_BLOCK", 1 << 20)
    monkeypatch.setattr(softmax_attention, "LONG_ROW", 1 << 20)


@pytest.mark.parametrize(("name", "length"), SIZES.items())
def test_forward_is_within_two_percent_of_xlas_count(name, length, attention_in_one_block):
    model = published(name)
    batch = shaped(model, length)
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    lowered = jax.jit(model.logits).lower(params, batch)
    counted = model.forward_flops({feature: x.shape for feature, x in batch.items()})
    total = sum(part.full for part in counted.values())
    assert total == pytest.approx(lowered.cost_analysis()["flops"], rel=0.02)


@pytest.mark.parametrize("name", ["models/gpt2/124m.gin", "models/t5_1_1/small.gin"])
def test_backward_is_twice_forward_and_the_scores_again(name, attention_in_one_block):
    """As FlashAttention, the backward pass recomputes the scores, which are not model FLOPs."""
    model = published(name)
    batch = shaped(model, SIZES[name])
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    gradient = jax.grad(lambda params, batch: model.loss(params, batch)[0]["loss"])
    lowered = jax.jit(gradient).lower(params, batch)
    shapes = {feature: x.shape for feature, x in batch.items()}
    # Half of attention's products are scores, half are sums of values.
    again = model.forward_flops(shapes)["attention_scores"].full / 2
    total = model.step_flops(shapes) + again
    assert total == pytest.approx(lowered.cost_analysis()["flops"], rel=0.02)


# -- Against Chinchilla's appendix F ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "e", "heads", "head_dim", "ratio"),
    [
        (10, 640, 10, 64, 1.03),
        (20, 1024, 16, 64, 1.10),
        (24, 1280, 10, 128, 1.08),
        (26, 1792, 14, 128, 1.04),
        (28, 2048, 16, 128, 1.03),
        (40, 3584, 28, 128, 0.99),
    ],
)
def test_flops_over_6nd_are_those_of_chinchillas_table_a4(layers, e, heads, head_dim, ratio):
    """Rows of 2,048, as Gopher's, whose architecture they have.

    The appendix counts softmax, 3 for each pair, and no relative positions. Its table leaves out
    embeddings and logits, although its formula names them: with them the first ratio would be 1.6.
    """
    t = 2048
    model = Gopher(
        vocab_size=32000, embed_dim=e, num_heads=heads, head_dim=head_dim, num_layers=layers
    )
    counted = model.forward_flops(decoder_row(t))
    layers_only = ("attention_projections", "attention_scores", "mlp")
    total = sum(counted[name].full for name in layers_only) + layers * 3 * heads * t * t
    assert 3 * total / (6 * model.parameter_count() * t) == pytest.approx(ratio, abs=0.005)


# -- Models that are trained in part ---------------------------------------------------------


def tuned(tuning):
    """Of a small decoder the FLOPs of forward and backward pass, by part, and of a step."""
    model = GPT2(
        vocab_size=V, embed_dim=24, num_heads=3, num_layers=2, max_length=16, tuning=tuning
    )
    shapes = decoder_row(16, 3)
    return model.forward_flops(shapes), model.backward_flops(shapes), model.step_flops(shapes)


def test_what_is_frozen_below_what_is_trained_has_no_backward_pass():
    forward, backward, _ = tuned(Parts(trained=["final_norm"]))
    # The norm before the output: one product with the output's frozen matrix, and none below it.
    assert backward["head"] == forward["head"]
    assert {name for name, part in backward.items() if part.full} == {"head"}


def test_frozen_matrices_have_one_product_in_the_backward_pass():
    forward, backward, step = tuned(Parts(trained=["position_embedder"]))
    for name in ("mlp", "attention_projections", "head"):
        assert backward[name] == forward[name]
    scores = forward["attention_scores"]  # of which nothing is a parameter
    assert backward["attention_scores"] == (2 * scores.full, 2 * scores.needed)
    assert step == sum(part.full for part in [*forward.values(), *backward.values()])


def test_where_all_is_trained_the_backward_pass_has_each_product_twice():
    assert tuned(Parts(trained=["."])) == tuned(None)


@pytest.mark.parametrize(
    "tuning",
    [
        LoRA(rank=4, alpha=8.0, targets=["/query$", "/value$"]),
        Adapters(width=8, targets=["mlp/wo$"], trained=["norm"]),
        Parts(trained=["final_norm"]),
    ],
)
def test_a_tuned_models_flops_are_those_of_the_compiled_program(tuning):
    """XLA counts a loop's body once; `hlo` counts its turns, of this small program's layers."""
    from t5x_like.cost import hlo
    from t5x_like.data import formats
    from t5x_like.optimizers import adamw
    from t5x_like.partitioning import Partitioner
    from t5x_like.schedules import Constant
    from t5x_like.training.step import lower_train_step

    model = GPT2(
        vocab_size=V, embed_dim=48, num_heads=3, num_layers=3, max_length=32, tuning=tuning,
        remat_policy="none",
    )  # fmt: skip
    batch = formats.example_batch(model.batch_format, {"targets": 32}, 4)
    mesh = Partitioner(data=1, devices=tuple(jax.devices()[:1]))
    lowered = lower_train_step(model, adamw(schedule=Constant(1e-3, 1)), mesh, batch)
    found = sum(hlo.matmul_flops(hlo.parse(lowered.compile().as_text())).values())
    shapes = {name: x.shape for name, x in batch.items()}
    assert model.step_flops(shapes) == pytest.approx(found, rel=0.06)
    assert model.step_flops(shapes) < 0.85 * model.clone(tuning=None).step_flops(shapes)
