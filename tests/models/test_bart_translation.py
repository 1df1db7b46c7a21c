"""BART with a source encoder in place of its table of source tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bart import BART
from models.bart_translation import BARTForTranslation
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.tuning import Parts
from t5x_like import cli, optimizers
from t5x_like.protocols import vocab_size
from t5x_like.runs import load_run
from t5x_like.schedules import Constant
from tests.models.families import drawn

SIZES = dict(
    vocab_size=12, embed_dim=8, num_heads=2, num_encoder_layers=2, num_decoder_layers=1, mlp_dim=12,
    max_length=8,
)  # fmt: skip
TRAINED = ("^source_", "_positions/embedding", "^encoder/layers/self_attention/(query|key|value)/")
BATCH = {
    "encoder_input_tokens": jnp.array([[13, 14, 15, 1], [16, 17, 1, 0]]),
    "decoder_input_tokens": jnp.array([[0, 3, 4], [0, 6, 0]]),
    "decoder_target_tokens": jnp.array([[3, 4, 1], [6, 1, 0]]),
}


def translator(**more):
    return BARTForTranslation(**SIZES, source_vocab_size=20, num_source_layers=1, **more)


class Fed(BART):
    """BART that reads given vectors in place of its source tokens'."""

    given: object = None

    def embed_source(self, tokens_bs, positions_bs):
        return self.encoder_embedding_norm(self.encoder_positions(self.given, positions_bs))


def test_barts_parameters_keep_their_names_and_shapes_and_the_others_begin_with_source():
    ours, barts = (model.abstract_params() for model in (translator(), BART(**SIZES)))
    shapes = [
        jax.tree.map(lambda box: box.value.shape, tree, is_leaf=is_box) for tree in (ours, barts)
    ]
    added = set(ours) - set(barts)
    assert added == {
        "source_embedder", "source_positions", "source_embedding_norm", "source_encoder",
    }  # fmt: skip
    assert {name: shapes[0][name] for name in barts} == shapes[1]
    assert shapes[0]["source_embedder"]["embedding"] == (20, 8)


def is_box(node):
    return hasattr(node, "names")


@pytest.mark.slow
def test_bart_reads_what_leaves_the_source_encoder_with_its_own_positions_and_norm():
    model = translator()
    params = drawn(model)

    def source(module, tokens_bs):
        x_bse = module.source_positions(module.source_embedder(tokens_bs), None)
        context = Context(Mask(key_valid_bs=tokens_bs != 0))
        return module.source_encoder(module.source_embedding_norm(x_bse), context)

    @jax.jit
    def fed(params):
        tokens = BATCH["encoder_input_tokens"]
        bart = Fed(**SIZES, given=model.apply({"params": params}, tokens, method=source))
        return bart.apply({"params": {name: params[name] for name in barts}}, **BATCH)

    barts = BART(**SIZES).abstract_params()
    logits = jax.jit(model.logits)
    found = logits(params, BATCH)
    np.testing.assert_allclose(found, fed(params), atol=1e-5)
    # The table of target tokens says nothing of the source.
    other = BATCH | {"encoder_input_tokens": BATCH["encoder_input_tokens"].at[0, 0].set(19)}
    assert np.abs(logits(params, other) - found)[0].max() > 1e-3


@pytest.mark.slow
def test_the_first_stage_trains_the_source_encoder_positions_and_the_first_layers_inputs():
    model = translator(tuning=Parts(trained=TRAINED))
    params = drawn(model)
    axes = jax.tree.map(lambda box: box.names, model.abstract_params(), is_leaf=is_box)
    rule = optimizers.first_layers(
        optimizers.adamw(schedule=Constant(1e-2), weight_decay=0.1),
        ["^encoder/layers/self_attention/"],
    ).build(axes)
    trains = jax.tree_util.tree_map_with_path(
        lambda path, _: model.tuning.trains(jax.tree_util.keystr(path, simple=True, separator="/")),
        params,
    )
    gradients = jax.jit(jax.grad(lambda params: model.loss(params, BATCH)[0]["loss"]))(params)
    updates, _ = jax.jit(rule.update)(gradients, rule.init(params), params)
    moved = jax.tree.map(lambda update, on: np.asarray(update != 0) & on, updates, trains)
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(moved)
    }
    whole = {name for name, leaf in moved.items() if leaf.any()}
    inputs = {
        f"encoder/layers/self_attention/{name}/{kind}"
        for name in ("query", "key", "value")
        for kind in ("kernel", "bias")
    }
    # A bias of keys changes no softmax.
    expected = {name for name in moved if name.startswith("source_")} | inputs
    expected |= {"encoder_positions/embedding", "decoder_positions/embedding"}
    no_effect = {name for name in expected if name.endswith("key/bias")}
    assert expected - no_effect <= whole <= expected
    for name in inputs - no_effect:
        assert moved[name][0].any() and not moved[name][1].any(), name


@pytest.mark.parametrize("feature", ["encoder_input_tokens", "inputs"])
def test_the_source_has_a_vocabulary_of_its_own(feature):
    assert vocab_size(translator(), feature) == 20
    assert vocab_size(translator(), "decoder_input_tokens") == 12
    assert vocab_size(BART(**SIZES), feature) == 12


@pytest.mark.slow
@pytest.mark.release
def test_both_stages_of_a_run_and_what_each_leaves_as_it_was(tmp_path):
    texts = {"en": ["a man sits", "two dogs run"] * 8, "de": ["ein mann sitzt", "zwei hunde"] * 8}
    for name, lines in texts.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    words = sorted({word for line in texts["de"] for word in line.split()})
    (tmp_path / "words.txt").write_text("".join(f"{word} 8\n" for word in words))

    def trained(name, run, *more):
        task = [
            f"--gin.{split}_{side}={tmp_path}/{file}.txt"
            for split in ("TRAIN", "VALIDATION")
            for side, file in (("SOURCE", "de"), ("TARGET", "en"))
        ]
        out = tmp_path / name
        flags = [
            "train", "--gin_file=models/bart/tiny.gin", "--gin_file=tasks/parallel_text.gin", *task,
            "--gin.INPUTS={source}", "--gin_file=optimizers/adamw.gin",
            f"--gin_file=runs/{run}.gin",
            "--gin.TASK_FEATURE_LENGTHS={'inputs': 32, 'targets': 32}", "--gin.BATCH_SIZE=8",
            "--gin.LEARNING_RATE=1e-2", "--gin.bart.BART.embed_dim=32", "--gin.TRAIN_STEPS=2",
            f"--gin.CACHE_DIR={tmp_path}/{run}", f"--gin.MODEL_DIR={out}", *more,
        ]  # fmt: skip
        assert cli.main(flags) == 0
        return load_run(str(out)).params

    (tmp_path / "source.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from tasks import vocabularies\n"
        "INPUTS_VOCABULARY = @source/vocabularies.WordVocabulary()\n"
        f"source/vocabularies.WordVocabulary.path = '{tmp_path}/words.txt'\n"
    )
    own = [f"--gin_file={tmp_path}/source.gin", "--gin.SOURCE_VOCAB_SIZE=8"]
    layers = [*own, "--gin.SOURCE_LAYERS=1"]
    bart = trained("bart", "pretrain")
    first = trained(
        "first", "bart_translation/source_encoder", *layers,
        f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path}/bart",
    )  # fmt: skip
    assert first["source_embedder"]["embedding"].shape == (8, 32)
    for name in ("decoder", "token_embedder", "decoder_embedding_norm"):
        jax.tree.map(np.testing.assert_array_equal, first[name], bart[name])
    query, before = (
        np.asarray(p["encoder"]["layers"]["self_attention"]["query"]["kernel"])
        for p in (first, bart)
    )
    assert (query[0] != before[0]).any()
    np.testing.assert_array_equal(query[1], before[1])
    second = trained(
        "second", "bart_translation/whole", *layers,
        f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path}/first",
    )  # fmt: skip
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), second, first)
    assert all(any(jax.tree.leaves(part)) for part in moved.values())
