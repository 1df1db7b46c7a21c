"""Every gin file's model has the number of parameters that its first lines promise."""

import functools
import re
from pathlib import Path

import gin
import jax
import pytest
from flax import linen as nn

from t5x_like import config

ROOT = Path(__file__).parents[2] / "gin_configs"
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("models/*/*.gin")
    if path.stem != "shape"  # of any size
)

# As published, in millions or billions: T5 1.0 in Raffel et al. 2020, section 3.7, with
# "11B" and its kind rounded; GPT-2 as corrected by its authors.
PUBLISHED = {
    "models/t5_1_0/small.gin": 60.5e6,
    "models/t5_1_0/base.gin": 220e6,
    "models/t5_1_0/large.gin": 770e6,
    "models/t5_1_0/3b.gin": 2.8e9,
    "models/t5_1_0/11b.gin": 11e9,
    "models/transformer/base.gin": 65e6,
    "models/transformer/big.gin": 213e6,
    "models/bart/base.gin": 139e6,
    "models/bart/large.gin": 406e6,
    "models/bert/base_uncased.gin": 110e6,
    "models/bert/large_uncased.gin": 340e6,
    "models/roberta/base.gin": 125e6,
    "models/roberta/large.gin": 355e6,
    # Without the masked head; the layers and embeddings are 66,362,880.
    "models/distilbert/base_uncased.gin": 66e6,
    "models/tiny_bert/4l_312d.gin": 14.5e6,
    "models/tiny_bert/6l_768d.gin": 67e6,
    "models/unilm/large_cased.gin": 340e6,
    "models/albert/base_v1.gin": 12e6,
    "models/albert/large_v1.gin": 18e6,
    "models/albert/xlarge_v1.gin": 60e6,
    # By the width table; the others print 233M and 235M.
    "models/albert/xxlarge_v1.gin": 223e6,
    "models/transformer_xl/wt103_base.gin": 151e6,
    "models/transformer_xl/enwik8_12l.gin": 41e6,
    "models/transformer_xl/enwik8_24l.gin": 277e6,
    "models/transformer_xl/text8_24l.gin": 277e6,
    "models/xlnet/large.gin": 360e6,
    # The others' printed numbers are their discriminators'.
    "models/electra/small.gin": 14e6,
    "models/spanbert/base_cased.gin": 110e6,
    "models/spanbert/large_cased.gin": 340e6,
    "models/structbert/base.gin": 110e6,
    "models/structbert/large.gin": 340e6,
    "models/sparse_transformer/enwik8.gin": 95e6,
    "models/sparse_transformer/cifar10.gin": 59e6,
    "models/sparse_transformer/imagenet64.gin": 152e6,
    "models/gpt2/124m.gin": 124.4e6,
    "models/gpt2/355m.gin": 355e6,
    "models/gpt2/774m.gin": 774e6,
    "models/gpt2/1558m.gin": 1558e6,
    "models/gpt1/117m.gin": 117e6,
    "models/gpt3/125m.gin": 125e6,
    "models/gpt3/350m.gin": 350e6,
    "models/gpt3/760m.gin": 760e6,
    "models/gpt3/1.3b.gin": 1.3e9,
    "models/gpt3/2.7b.gin": 2.7e9,
    "models/gpt3/6.7b.gin": 6.7e9,
    "models/gpt3/13b.gin": 13e9,
    "models/gpt3/175b.gin": 175e9,
    "models/gopher/44m.gin": 44e6,
    "models/gopher/117m.gin": 117e6,
    "models/gopher/417m.gin": 417e6,
    "models/gopher/1.4b.gin": 1.4e9,
    "models/gopher/7.1b.gin": 7.1e9,
    "models/gopher/280b.gin": 280e9,
    "models/chinchilla/70b.gin": 70e9,
    # Printed as 2B and 8B, without embeddings; with digits, by the shapes of table 27.
    "models/lamda/2b.gin": 2.1e9,
    "models/lamda/8b.gin": 8.6e9,
    "models/lamda/137b.gin": 137e9,
    "models/palm/8b.gin": 8.63e9,
    "models/palm/62b.gin": 62.50e9,
    "models/palm/540b.gin": 540.35e9,
    "models/llama/6.7b.gin": 6.7e9,
    "models/llama/13.0b.gin": 13.0e9,
    "models/llama/32.5b.gin": 32.5e9,
    "models/llama/65.2b.gin": 65.2e9,
    "models/pythia/70m.gin": 70426624,
    "models/pythia/160m.gin": 162322944,
    "models/pythia/410m.gin": 405334016,
    "models/pythia/1b.gin": 1011781632,
    "models/pythia/1.4b.gin": 1414647808,
    "models/pythia/2.8b.gin": 2775208960,
    "models/pythia/6.9b.gin": 6857302016,
    "models/pythia/12b.gin": 11846072320,
    "models/gpt_neox/20b.gin": 20554567680,
    "models/char_transformer/t64.gin": 235e6,
    "models/char_transformer/t12.gin": 44e6,
    # By the layers' formula, 4 h (i + h) + 4 h, with embeddings and output.
    "models/lstm/zaremba_small.gin": 4651600,
    "models/lstm/zaremba_medium.gin": 19775200,
    "models/lstm/zaremba_large.gin": 66022000,
    "models/lstm/gpt1_ablation.gin": 116.5e6,
    "models/lstm/awd_ptb.gin": 24.2e6,
    "models/lstm/awd_wikitext2.gin": 33.6e6,
    "models/lstm/ulmfit.gin": 32.2e6,
    "models/nnlm/4.5m.gin": 4521064,
    # By the paper's formula, |V| (1 + n m + h) + h (1 + (n - 1) m).
    "models/nnlm/ap_news.gin": 17964 * (1 + 6 * 100 + 60) + 60 * (1 + 5 * 100),
    "models/switch/base.gin": 7.4e9,
    "models/switch/large.gin": 26e9,
    "models/switch/xxl.gin": 395e9,
    "models/switch/c.gin": 1571e9,
    "models/switch/moe_base.gin": 7.4e9,
}


@functools.cache
def model_of(name, bindings=""):
    gin.clear_config()
    try:
        gin.add_config_file_search_path(ROOT)  # of what a file includes
        gin.parse_config_file(str(ROOT / name))
        gin.parse_config(bindings)
        return gin.query_parameter("MODEL/macro.value").__deepcopy__({})
    finally:
        gin.clear_config()


@functools.cache
def count_of(name):
    """Once for all tests: a model is traced for it."""
    return model_of(name).parameter_count()


@pytest.mark.parametrize("name", FILES)
def test_count_and_command_are_as_the_file_says(name):
    text = (ROOT / name).read_text()
    assert f"t5x-like inspect --gin_file={name}\n" in text
    promised = int(re.search(r"^# ([\d,]+) parameters", text, re.MULTILINE)[1].replace(",", ""))
    assert count_of(name) == promised


@pytest.mark.parametrize("name", FILES)
def test_vocab_size_means_the_same_to_every_model(name):
    assert model_of(name, "VOCAB_SIZE = 1234").vocab_size == 1234


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_count_is_the_published_one_or_the_file_says_by_how_much_not(name, count):
    difference = count_of(name) / count - 1
    assert abs(difference) < 0.045
    if abs(difference) > 0.01:
        direction = "above" if difference > 0 else "below"
        comments = [line for line in (ROOT / name).read_text().splitlines() if line[:1] == "#"]
        said = re.search(r"([\d.]+)%\s+(#\s+)?(more|fewer|less|above|below)", " ".join(comments))
        assert said, f"{name} must say that its count is {abs(difference):.1%} {direction}"
        assert float(said[1]) == pytest.approx(100 * abs(difference), abs=0.11)


def test_every_published_size_has_a_file():
    assert set(PUBLISHED) <= set(FILES)
    assert {f"models/t5_1_1/{x}.gin" for x in ("small", "base", "large", "xl", "xxl")} <= set(FILES)
    tiny = [count_of(name) for name in FILES if name.endswith("/tiny.gin")]
    assert tiny and max(tiny) < 1e6


# With both heads, with the masked head alone, with the pooler alone, and the encoder: computed from
# the shapes of the released checkpoints' tensors.
BERT = {
    "base_uncased": (110_106_428, 109_514_298, 109_482_240, 108_891_648),
    "large_uncased": (336_226_108, 335_174_458, 335_141_888, 334_092_288),
    "base_cased": (108_932_934, 108_340_804, 108_310_272, 107_719_680),
    "large_cased": (334_661_958, 333_610_308, 333_579_264, 332_529_664),
    "multilingual_cased": (178_566_653, 177_974_523, 177_853_440, 177_262_848),
}


# With the masked head, with the pooler alone, and the encoder.
ROBERTA = {
    "base": (124_697_433, 124_645_632, 124_055_040),
    "large": (355_412_057, 355_359_744, 354_310_144),
}


@pytest.mark.parametrize(("size", "counts"), ROBERTA.items())
def test_robertas_counts_are_those_of_each_class_of_the_released_checkpoints(size, counts):
    model = model_of(f"models/roberta/{size}.gin")
    encoder = model.clone(use_masked_head=False)
    models = (model, encoder.clone(use_pooler=True), encoder)
    assert tuple(each.parameter_count() for each in models) == counts


# Both heads, as BERT's class for pre-training with four types more.
UNILM = {"base_cased": 108_936_006, "large_cased": 334_666_054}


@pytest.mark.parametrize(("size", "count"), UNILM.items())
def test_unilms_count_is_berts_with_four_types_more(size, count):
    model, bert = (model_of(f"models/{family}/{size}.gin") for family in ("unilm", "bert"))
    assert model.parameter_count() == count == BERT[size][0] + 4 * model.embed_dim
    assert bert.embed_dim == model.embed_dim and model.vocab_size > model.mask_id == 103


def test_distilbert_has_60_6_percent_of_berts_parameters():
    model = model_of("models/distilbert/base_uncased.gin").clone(use_masked_head=False)
    assert model.parameter_count() == 66_362_880
    assert model.parameter_count() / BERT["base_uncased"][2] == pytest.approx(0.606, abs=5e-4)


def test_robertas_vocabulary_costs_15_and_20_million_more_than_berts():
    """19,743 rows more, of 768 and of 1,024."""
    for size, more in (("base", 15_162_624), ("large", 20_216_832)):
        roberta, bert = (
            model_of(f"models/{name}.gin") for name in (f"roberta/{size}", f"bert/{size}_uncased")
        )
        assert (roberta.vocab_size - bert.vocab_size) * roberta.embed_dim == more


@pytest.mark.parametrize(("size", "counts"), BERT.items())
def test_berts_counts_are_those_of_each_class_of_the_released_checkpoints(size, counts):
    model = model_of(f"models/bert/{size}.gin")
    masked_lm = model.clone(use_pooler=False, use_next_sentence_head=False)
    pooled = model.clone(use_masked_head=False, use_next_sentence_head=False)
    models = (model, masked_lm, pooled, pooled.clone(use_pooler=False))
    assert tuple(each.parameter_count() for each in models) == counts


# Computed from the shapes of the released tensors; the versions differ in dropout alone.
ALBERT = {
    "base": (11_813_810, 11_683_584, 11_092_992),
    "large": (17_847_474, 17_683_968, 16_634_368),
    "xlarge": (59_021_490, 58_724_864, 54_528_512),
    "xxlarge": (223_158_450, 222_595_584, 205_814_272),
}


@pytest.mark.parametrize(("size", "counts"), ALBERT.items())
def test_alberts_counts_with_both_heads_with_the_pooler_alone_and_without(size, counts):
    for version, dropout in ((1, 0.0 if size == "xxlarge" else 0.1), (2, 0.0)):
        model = model_of(f"models/albert/{size}_v{version}.gin")
        assert model.dropout_rate == dropout
        pooled = model.clone(use_masked_head=False, use_next_sentence_head=False)
        models = (model, pooled, pooled.clone(use_pooler=False))
        assert tuple(each.parameter_count() for each in models) == counts


# From the shapes; two are printed as 257M and 0.8B, which no way of counting gives.
TRANSFORMER_XL = {
    "wt103_base": 151_107_538,
    "wt103_large": 285_205_322,
    "enwik8_12l": 41_055_436,
    "enwik8_24l": 277_231_820,
    "text8_24l": 277_050_395,
    "lm1b_large": 840_817_262,
}


@pytest.mark.parametrize(("size", "count"), TRANSFORMER_XL.items())
def test_transformer_xls_counts_are_those_of_the_shapes(size, count):
    assert count_of(f"models/transformer_xl/{size}.gin") == count


def test_transformer_xl_larges_parameters_by_part():
    """Layers, tables and projections, biases and clusters, and the projection of the head."""
    model = model_of("models/transformer_xl/wt103_large.gin")
    shapes = model.abstract_params()
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    output = dict(shapes["output"])
    assert count(shapes["decoder"]) == 245_569_536
    assert count(shapes["token_embedder"]) == 38_316_400
    assert count(output.pop("projection_0")) == 1_048_576
    assert count(output) == 270_810


@pytest.mark.parametrize(
    ("size", "counts"),
    {"base": (116_750_336, 116_718_336), "large": (360_300_800, 360_268_800)}.items(),
)
def test_xlnets_counts_with_the_outputs_bias_and_without(size, counts):
    model = model_of(f"models/xlnet/{size}.gin")
    models = (model, model.clone(use_output=False))
    assert tuple(each.parameter_count() for each in models) == counts


# Both networks; the discriminator with its head and without; the generator with its head and
# without: computed from the shapes.
ELECTRA = {
    "small": (14_196_475, 13_549_057, 13_483_008, 4_620_026, 4_580_928),
    "base": (119_387_963, 109_483_009, 108_891_648, 33_740_602, 33_511_168),
    "large": (354_657_339, 335_142_913, 334_092_288, 51_295_290, 50_999_552),
}


def electras_counts(model):
    discriminator, generator = (
        model.network({}, name)[0] for name in ("discriminator", "generator")
    )
    models = (model, discriminator, discriminator.clone(use_replaced_head=False))
    models += (generator, generator.clone(use_masked_head=False))
    return tuple(each.parameter_count() for each in models)


@pytest.mark.parametrize(("size", "counts"), ELECTRA.items())
def test_electras_counts_of_both_networks_and_of_each(size, counts):
    assert electras_counts(model_of(f"models/electra/{size}.gin")) == counts


def test_electras_released_small_generator_is_as_wide_as_the_discriminator():
    model = model_of("models/electra/small.gin")
    released = model.clone(generator_embed_dim=256, generator_mlp_dim=1024, generator_num_heads=4)
    assert electras_counts(released)[3] == 13_546_682


@pytest.mark.parametrize(("size", "head"), [("base", 1_959_676), ("large", 3_388_668)])
def test_spanbert_is_berts_masked_language_model_and_a_head_of_boundaries(size, head):
    """W1 [H, 2 H + 200], W2 [H, H], biases and norms, 15 vectors of 200, a bias for each token."""
    model = model_of(f"models/spanbert/{size}_cased.gin")
    plain = model.clone(use_span_boundary_head=False).parameter_count()
    assert plain == BERT[f"{size}_cased"][1] and model.parameter_count() - plain == head


@pytest.mark.parametrize(("size", "width"), [("base", 768), ("large", 1024)])
def test_structbert_is_bert_with_one_label_more_for_a_pair(size, width):
    model = model_of(f"models/structbert/{size}.gin")
    assert model.parameter_count() == BERT[f"{size}_uncased"][0] + width + 1


# With the decoder, with the masked head alone, the encoder, and that without the table of tokens;
# computed from the shapes of the released tensors. The last is what the release prints.
DEBERTA = {
    "base": (139_637_337, 139_244_121, 138_601_728, 99_998_208, 100e6),
    "large": (406_789_209, 406_264_921, 405_163_008, 353_691_648, 350e6),
    "xlarge": (759_430_233, 758_905_945, 757_804_032, 706_332_672, 700e6),
}


@pytest.mark.parametrize(("size", "counts"), DEBERTA.items())
def test_debertas_counts_with_its_decoder_without_and_without_the_table_of_tokens(size, counts):
    model = model_of(f"models/deberta/{size}.gin")
    masked, encoder = model.clone(decoder_turns=0), model.clone(use_masked_head=False)
    found = [each.parameter_count() for each in (model, masked, encoder)]
    found.append(encoder.parameter_count(embeddings=False))
    assert tuple(found) == counts[:4]
    assert found[3] == pytest.approx(counts[4], rel=0.011)


# Computed from the shapes of the released tensors; the paper prints none.
BIGBIRD = {
    "base": (128_112_824, 127_520_694, 127_468_800, 126_878_208),
    "large": (360_228_024, 359_176_374, 359_123_968, 358_074_368),
}


@pytest.mark.parametrize(("size", "counts"), BIGBIRD.items())
def test_bigbirds_counts_are_those_of_each_class(size, counts):
    model = model_of(f"models/bigbird/{size}.gin")
    masked_lm = model.clone(use_pooler=False, use_next_sentence_head=False)
    pooled = model.clone(use_masked_head=False, use_next_sentence_head=False)
    models = (model, masked_lm, pooled, pooled.clone(use_pooler=False))
    assert tuple(each.parameter_count() for each in models) == counts


@pytest.mark.parametrize(("size", "count"), [("ptb", 24_221_600), ("wikitext2", 33_556_078)])
def test_awd_lstms_count_is_pytorchs_without_the_second_biases(size, count):
    """Three layers of 1150, 1150 and 400 units, a tied output with a bias."""
    model = model_of(f"models/lstm/awd_{size}.gin")
    assert model.parameter_count() == count - 4 * (1150 + 1150 + 400)
    layers = jax.tree.leaves(nn.unbox(model.abstract_params())["decoder"])
    assert sum(x.size for x in layers) + 4 * (1150 + 1150 + 400) == 20_211_600
    assert all(
        len(model.initial_carry(1)[f"layers_{i}"]["hidden"][0]) == u
        for i, u in enumerate((1150, 1150, 400))
    )


def test_gpt2s_vocabulary_is_all_bytes_the_merges_and_the_end_of_texts():
    assert model_of("models/gpt2/124m.gin").vocab_size == 256 + 50_000 + 1


def test_berts_layers_are_7_and_12_and_a_half_million():
    """What is left without heads and tables is layers and the norm of the embeddings, 2 H."""
    for size, width, layers in (
        ("base_uncased", 768, 85_054_464),
        ("large_uncased", 1024, 302_309_376),
    ):
        model = model_of(f"models/bert/{size}.gin").clone(
            use_masked_head=False, use_pooler=False, use_next_sentence_head=False
        )
        assert model.parameter_count(embeddings=False) - 2 * width == layers


# Brown et al. 2020, table 2.1: batch in tokens, learning rate.
GPT3 = {
    "125m": (0.5e6, 6e-4),
    "350m": (0.5e6, 3e-4),
    "760m": (0.5e6, 2.5e-4),
    "1.3b": (1e6, 2e-4),
    "2.7b": (1e6, 1.6e-4),
    "6.7b": (2e6, 1.2e-4),
    "13b": (2e6, 1e-4),
    "175b": (3.2e6, 0.6e-4),
}


@pytest.mark.parametrize(("size", "published"), GPT3.items())
def test_gpt3s_published_batch_and_rate_hold_after_the_optimizers_file(size, published):
    """Rows of 2,048 tokens, a number that devices divide; millions are printed for 2^20."""
    tokens, rate = published
    name = f"models/gpt3/{size}.gin"
    assert f"--gin_file=optimizers/adamw.gin --gin_file={name} " in (ROOT / name).read_text()
    with config.isolated():
        config.parse(["optimizers/adamw.gin", name])
        assert config.macro("LEARNING_RATE") == rate
        rows = config.macro("BATCH_SIZE")
        assert config.macro("WARMUP_STEPS") == pytest.approx(375e6 / (rows * 2048), rel=0.005)
    assert rows * 2048 == pytest.approx(tokens, rel=0.05)
    assert rows % 256 == 0


@pytest.mark.parametrize("stage", ["language_model", "classifier"])
def test_ulmfits_later_stages_keep_the_dropouts_of_its_model(stage):
    with config.isolated():
        config.parse(["models/lstm/ulmfit.gin", f"runs/ulmfit/{stage}.gin"])
        model = config.macro("MODEL")
    assert (model.dropout_rate, model.input_dropout_rate) == (0.4, 0.4)
    assert (model.between_dropout_rate, model.embedding_dropout_rate) == (0.3, 0.05)
