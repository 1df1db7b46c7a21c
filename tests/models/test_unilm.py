"""UniLM by hand: its masks, its types, and that it writes as it was trained (Dong et al. 2019)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import unilm
from models.bert import BERT
from models.errors import ModelError
from models.hf import load_hf, save_hf
from models.layers.attention.masks import Mask
from models.unilm import UniLM, ranks
from t5x_like import cli, decoding, load_run, protocols
from tests.models.families import ENCODERS, V, batch_for, drawn

make = ENCODERS["unilm"]


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def params(model):
    return drawn(model)


@functools.partial(jax.jit, static_argnums=0)
def trained_logits(model, params, batch):
    """Of the token at each place, as in training."""
    return model.apply({"params": params}, **batch)


@functools.partial(jax.jit, static_argnums=0)
def next_logits(model, params, batch):
    return model.logits(params, batch)


# -- Masks (equations 1 to 3) ------------------------------------------------------------------

MASKS = [
    "11111 11111 11111 11111 11111",
    "10000 11000 11100 11110 11111",
    "11111 01111 00111 00011 00001",
    "11100 11100 11100 11110 11111",
]


def test_the_four_masks_of_five_tokens_in_one_batch():
    """The first segment has three of them; a row sees a column."""
    queries, keys = ranks(jnp.arange(4), jnp.full((4,), 3), 5)
    mask = Mask(query_ranks_bt=queries, key_ranks_bs=keys)
    dense = mask.dense((0, 5), (0, 5))
    found = [" ".join("".join(map(str, row)) for row in each[0].astype(int).tolist())
             for each in np.asarray(dense)]  # fmt: skip
    assert found == MASKS
    # A block of it.
    part = mask.dense((jnp.int32(2), 2), (1, 3))
    np.testing.assert_array_equal(part, dense[:, :, 2:4, 1:4])


def test_a_batch_of_all_kinds_is_each_row_by_itself(model, params):
    batch = batch_for(model, rows=4)
    assert batch["row_mask_kind"].tolist() == [0, 1, 2, 3]
    together = trained_logits(model, params, batch)
    for i in range(4):
        alone = trained_logits(model, params, {name: x[i : i + 1] for name, x in batch.items()})
        np.testing.assert_allclose(together[i], alone[0], atol=2e-5)


def test_no_token_is_moved_by_one_that_it_does_not_see(model, params):
    """Two layers deep: seeing is transitive in all four kinds."""
    batch = batch_for(model, rows=4, length=5)
    types = jnp.broadcast_to((jnp.arange(5) >= 3).astype(jnp.int32), (4, 5))
    batch |= {"row_prefix_length": jnp.full((4,), 3), "encoder_token_types": types}
    logits = trained_logits(model, params, batch)
    for j in range(5):
        changed = batch["encoder_input_tokens"].at[:, j].set(9)
        other = trained_logits(model, params, batch | {"encoder_input_tokens": changed})
        moved = np.abs(logits - other).max(-1) > 1e-4
        for i, mask in enumerate(MASKS):
            assert moved[i].tolist() == [row[j] == "1" for row in mask.split()]


def test_rows_in_both_directions_are_berts(model, params):
    bert = BERT(**{name: getattr(model, name) for name in (
        "vocab_size", "embed_dim", "mlp_dim", "num_heads", "num_layers", "max_length",
        "num_token_types", "norm_epsilon",
    )})  # fmt: skip
    batch = batch_for(bert)
    np.testing.assert_allclose(
        trained_logits(model, params, batch), trained_logits(bert, params, batch), atol=2e-5
    )


def test_each_kind_has_its_own_types_of_segments(model, params):
    """Six rows: 0 and 1, 2, 3, 4 and 5."""
    batch = batch_for(model, rows=4)
    assert unilm.TYPES == ((0, 1), (2, 2), (3, 3), (4, 5))
    logits = trained_logits(model, params, batch)
    table = params["token_type_embedder"]["embedding"]
    for kind, rows in enumerate(unilm.TYPES):
        for row in set(rows):
            other = {"token_type_embedder": {"embedding": table.at[row].multiply(-2.0)}}
            moved = np.abs(logits - trained_logits(model, params | other, batch)).max((1, 2)) > 1e-3
            assert moved.tolist() == [i == kind for i in range(4)]


# -- Writing -------------------------------------------------------------------------------------


def prompt(rows=2, length=7, prefix=0):
    rng = np.random.default_rng(3)
    batch = {"decoder_input_tokens": jnp.asarray(rng.integers(1, V - 1, (rows, length)))}
    if prefix:
        seen = jnp.broadcast_to(jnp.arange(length) < prefix, (rows, length))
        batch["decoder_causal_attention"] = seen.astype(jnp.int32)
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [0, 4])
def test_the_next_token_is_that_of_a_mask_at_its_place_as_it_was_trained(prefix, model, params):
    """A row up to a token and a mask after it, of the kind that the loss is learned with."""
    batch = prompt(prefix=prefix)
    tokens = batch["decoder_input_tokens"]
    found = next_logits(model, params, batch)
    slots = jnp.arange(8)
    for t in range(max(prefix - 1, 0), 7):
        row = jnp.pad(tokens, ((0, 0), (0, 1))).at[:, t + 1].set(model.mask_id)
        batch = {
            "encoder_input_tokens": row,
            "encoder_token_types": jnp.broadcast_to((slots >= prefix) & (prefix > 0), row.shape)
            + 0,
            "encoder_segment_ids": jnp.broadcast_to(slots <= t + 1, row.shape) + 0,
            "row_mask_kind": jnp.full((2,), 3 if prefix else 1),
            "row_prefix_length": jnp.full((2,), prefix),
        }
        trained = trained_logits(model, params, batch)
        np.testing.assert_allclose(found[:, t], trained[:, t + 1], atol=2e-5)


@pytest.mark.parametrize(("start", "unstacked"), [(0, False), (3, True)])
def test_decoding_step_by_step_gives_the_same_logits(start, unstacked, model, params):
    batch = prompt()
    tokens, logits = batch["decoder_input_tokens"], next_logits(model, params, batch)
    laid_out = model.decoding_params(params) if unstacked else params
    prompted = {"decoder_input_tokens": tokens[:, :start]}
    cache = jax.jit(model.init_cache, static_argnums=2)(laid_out, prompted, 7)
    assert all(x.ndim == 0 or x.shape[0] == 2 for x in jax.tree.leaves(cache))
    step = jax.jit(model.decode_step)
    for i in range(start, 7):
        found, cache = step(laid_out, cache, tokens[:, i])
        np.testing.assert_allclose(found, logits[:, i], atol=2e-5)


def test_a_pairs_first_segment_is_read_in_both_directions_and_padding_before_it_not_at_all(
    model, params
):
    batch = prompt(prefix=4)
    tokens, logits = batch["decoder_input_tokens"], next_logits(model, params, batch)
    padding = jnp.zeros((2, 3), jnp.int32)
    read = {
        "decoder_input_tokens": jnp.concatenate([padding, tokens[:, :4]], axis=1),
        "decoder_segment_ids": jnp.concatenate([padding, jnp.ones((2, 4), int)], axis=1),
        "decoder_causal_attention": jnp.concatenate([padding, jnp.ones((2, 4), int)], axis=1),
    }
    np.testing.assert_allclose(next_logits(model, params, read)[:, -1], logits[:, 3], atol=2e-5)
    laid_out = model.decoding_params(params)
    cache = jax.jit(model.init_cache, static_argnums=2)(laid_out, read, 10)
    step = jax.jit(model.decode_step)
    for i in range(4, 7):
        found, cache = step(laid_out, cache, tokens[:, i])
        np.testing.assert_allclose(found, logits[:, i], atol=2e-5)


def write(model, params, **options):
    return decoding.generate(
        model,
        params,
        [[5, 6, 7], [8, 9, 4]],
        max_new_tokens=5,
        eos_id=None,
        bidirectional_prompt=True,
        batch_size=2,
        **options,
    )


@pytest.mark.slow
def test_the_engine_writes_the_likeliest_token_and_feeds_it_back(model, params):
    assert isinstance(model, protocols.Decodes) and isinstance(model, protocols.Predicts)
    found = write(model, params)
    texts = ([0, 5, 6, 7], [0, 8, 9, 4])
    row = jnp.array([text + one.tokens for text, one in zip(texts, found, strict=True)])
    seen = jnp.broadcast_to(jnp.arange(9) < 4, row.shape).astype(jnp.int32)
    batch = {"decoder_input_tokens": row, "decoder_causal_attention": seen}
    log_p = jax.nn.log_softmax(next_logits(model, params, batch))[:, 3:-1]
    assert log_p.argmax(-1).tolist() == [one.tokens for one in found]
    np.testing.assert_allclose([one.score for one in found], log_p.max(-1).sum(-1), atol=1e-3)


@pytest.mark.slow
def test_beams_find_nothing_less_likely(model, params):
    greedy = write(model, params)
    beams = write(model, params, strategy=decoding.BeamSearch(beams=3, alpha=0.0))
    assert all(b.score >= g.score - 1e-4 for b, g in zip(beams, greedy, strict=True))
    assert all(len(one.tokens) == 5 for one in beams)


def test_a_prompt_leaves_room_for_the_mask(model, params):
    """32 positions: after 31 tokens and the start one token can be written no more."""
    write = functools.partial(decoding.generate, model, params, max_new_tokens=9, eos_id=None)
    (found,) = write([[5] * 30], batch_size=1)
    assert len(found.tokens) == 1
    with pytest.raises(Exception, match="it takes 33 positions, but the model's max_length is 32"):
        write([[5] * 31], batch_size=1)


def test_what_a_decoder_would_read_can_be_looked_at_and_predicted(model, params):
    batch = prompt(prefix=4)
    weights = jax.jit(model.attention_weights)(params, batch)
    assert weights.keys() == {"decoder"} and weights["decoder"].shape == (2, 2, 3, 7, 7)
    assert np.asarray(weights["decoder"])[..., 5, 6].max() == 0
    assert np.asarray(weights["decoder"])[..., 0, 3].min() > 0
    assert jax.eval_shape(model.predict, params, batch)["tokens"].shape == (2, 7)


# -- The rest --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hidden_tokens_may_be_smoothed(model, params):
    batch = batch_for(model)
    plain, smooth = (
        jax.jit(make(label_smoothing=rate).loss)(params, batch)[0] for rate in (0.0, 0.1)
    )
    assert plain["masked_language_model"] != smooth["masked_language_model"]
    assert plain["next_sentence"] == smooth["next_sentence"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_id": V}, "UniLM.mask_id is 61: it must be below vocab_size 61"),
        ({"num_token_types": 2}, "UniLM.num_token_types is 2: it must be 6"),
    ],
)
def test_what_it_cannot_be_built_with_is_said_in_one_line(fields, message):
    with pytest.raises(ModelError, match=message):
        make(**fields)


def test_its_weights_are_berts_with_six_types(model, params, tmp_path):
    """They are written and read as BERT's; a UniLM of the same parameters gives the same logits."""
    save_hf(model, params, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["model_type"], config["type_vocab_size"]) == ("bert", 6)
    assert config["layer_norm_eps"] == 1e-5 == UniLM(vocab_size=9, mask_id=1).norm_epsilon
    bert, read = load_hf(tmp_path / "out")
    assert type(bert) is BERT and bert.use_masked_head and bert.use_next_sentence_head
    jax.tree.map(np.testing.assert_array_equal, read, params)
    del config["layer_norm_eps"]
    (tmp_path / "out/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"layer_norm_eps None is not supported: only .*1e-05"):
        load_hf(tmp_path / "out")


@pytest.mark.interop
def test_all_four_kinds_are_transformers_with_these_masks(model, params, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    save_hf(model, params, tmp_path / "out")
    theirs = transformers.BertForPreTraining.from_pretrained(
        tmp_path / "out", attn_implementation="eager"
    ).eval()
    batch = batch_for(model, rows=4, length=10)
    kind = np.asarray(batch["row_mask_kind"])
    types = np.array(unilm.TYPES)[kind[:, None], np.asarray(batch["encoder_token_types"])]
    queries, keys = ranks(batch["row_mask_kind"], batch["row_prefix_length"], 10)
    seen = Mask(query_ranks_bt=queries, key_ranks_bs=keys).dense((0, 10), (0, 10))
    added = np.where(np.asarray(seen), 0.0, np.finfo(np.float32).min).astype(np.float32)
    with torch.no_grad():
        found = theirs(
            input_ids=torch.tensor(np.asarray(batch["encoder_input_tokens"])),
            token_type_ids=torch.tensor(types),
            attention_mask=torch.tensor(added),
        ).prediction_logits.numpy()
    np.testing.assert_allclose(trained_logits(model, params, batch), found, atol=1e-4)


# -- By the command line ---------------------------------------------------------------------------

SMALL = """
unilm.UniLM:
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  num_layers = 2
  max_length = 64
WARMUP_STEPS = 1
train.train.log_period = 2
train.train.tensorboard = False
"""
PRETRAIN = f"""
from __gin__ import dynamic_registration
import tasks
from models import unilm
from tasks import objectives
from t5x_like import train

include 'models/unilm/tiny.gin'
include 'tasks/objectives/unified_lm.gin'
include 'optimizers/bert.gin'
include 'runs/pretrain.gin'
tasks.unsupervised.objective = %OBJECTIVE
TASK_FEATURE_LENGTHS = {{'targets': 32}}
TRAIN_STEPS = 4
{SMALL}"""
FINETUNE = f"""
from __gin__ import dynamic_registration
from models import unilm
from t5x_like import train

include 'models/unilm/tiny.gin'
include 'tasks/jsonl_text_to_text.gin'
include 'tasks/hidden_targets.gin'
include 'optimizers/bert.gin'
include 'runs/finetune.gin'
COLUMNS = ['inputs', 'targets']
INPUTS = '{{inputs}}'
TARGETS = '{{targets}}'
TASK_FEATURE_LENGTHS = {{'inputs': 20, 'targets': 12}}
TRAIN_STEPS = 4
{SMALL}"""


@pytest.mark.slow
def test_it_is_pretrained_fine_tuned_on_pairs_evaluated_and_writes(corpus, tmp_path, capsys):
    (tmp_path / "pretrain.gin").write_text(PRETRAIN)
    (tmp_path / "finetune.gin").write_text(FINETUNE)
    flags = [corpus[1], f"--gin_file={tmp_path}/pretrain.gin", f"--gin.MODEL_DIR={tmp_path}/one"]
    assert cli.main(["train", *flags]) == 0
    run = load_run(f"{tmp_path}/one")
    assert run.model.loss_terms.keys() == {"masked_language_model", "next_sentence"}
    # Without a first segment it writes from the left.
    assert len(run.generate(["water"], max_new_tokens=4)) == 1
    pairs = [{"inputs": word, "targets": word[::-1]} for word in ("abc", "water", "stone", "run")]
    for name in ("train", "validation"):
        lines = "".join(json.dumps(pair) + "\n" for pair in pairs * 8)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    flags = [
        f"--gin_file={tmp_path}/finetune.gin",
        f"--gin.MODEL_DIR={tmp_path}/two",
        f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path}/one",
        f"--gin.TRAIN_FILES={tmp_path}/train.jsonl",
        f"--gin.VALIDATION_FILES={tmp_path}/validation.jsonl",
        f"--gin.CACHE_DIR={tmp_path}/cache",
    ]
    assert cli.main(["cache", *flags, "--num_shards=1", "--num_workers=1"]) == 0
    assert cli.main(["train", *flags]) == 0
    config = f"--gin_file={tmp_path}/two/config.gin"
    assert cli.main(["eval", config, "--gin_file=runs/eval.gin"]) == 0
    (tmp_path / "in.txt").write_text("water\nab\n")
    more = [f"--gin.INPUT_PATH={tmp_path}/in.txt", f"--gin.OUTPUT_PATH={tmp_path}/out.jsonl",
            "--gin.STRATEGY=@decoding.BeamSearch()"]  # fmt: skip
    assert cli.main(["infer", config, "--gin_file=runs/infer.gin", *more]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    run = load_run(f"{tmp_path}/two")
    (score,) = run.score(inputs=["water"], targets=["retaw"])
    assert np.isfinite(score) and score < 0
