"""MT-DNN: heads that share an encoder, each with its own rows, labels and loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.errors import ModelError
from models.heads import Classification, PairClassification, Ranking, Regression
from models.mt_dnn import MTDNN, task_number
from t5x_like.data import formats
from t5x_like.training.loss import scales, total
from tests.models.families import V, drawn, encoder

HEADS = {
    "cola": Classification(("no", "yes")),
    "mnli": PairClassification(("a", "b", "c"), steps=2),
    "stsb": Regression(),
    "qnli": Ranking(),
}
TASKS = {"glue_mnli": "mnli", "glue_mnli_mismatched": "mnli"}
mt_dnn = lambda: encoder(MTDNN, heads=HEADS, tasks=TASKS, num_layers=1)  # noqa: E731


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch):
    return model.loss(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def predictions_of(model, params, batch):
    return model.predict(params, batch)


@functools.partial(jax.jit, static_argnums=0)
def outputs_of(model, params, batch):
    return model.apply({"params": params}, **batch)


@pytest.fixture(scope="module")
def model():
    return mt_dnn()


@pytest.fixture(scope="module")
def params(model):
    return drawn(model)


def rows_of(*tasks, seed=0, candidates=None):
    """A row for each task that is named."""
    rng = np.random.default_rng(seed)
    labels = {"cola": 1, "glue_mnli": 2, "glue_mnli_mismatched": 0, "stsb": 3.75, "qnli": 1}
    shape = (len(tasks), 8) if candidates is None else (len(tasks), candidates, 8)
    types = np.broadcast_to(np.arange(8) // 4, shape)
    batch = {
        "encoder_input_tokens": rng.integers(1, V, shape).astype(np.int32),
        "encoder_token_types": types.astype(np.int32),
        "encoder_segment_ids": np.ones(shape, np.int32),
        "label": np.array([labels[task] for task in tasks], np.float32),
        "label_weight": np.ones(len(tasks), np.int32),
        "task": np.array([task_number(task) for task in tasks], np.int32),
    }
    return jax.tree.map(jnp.asarray, batch)


@pytest.mark.slow
def test_each_head_has_the_loss_of_its_own_rows(model, params):
    """In a batch of all tasks, as the model of each task has it on its rows alone."""
    order = ("cola", "glue_mnli", "stsb", "glue_mnli_mismatched", "cola")
    batch = rows_of(*order)
    terms, metrics = loss_of(model, params, batch)
    assert terms.keys() == model.loss_terms.keys() == HEADS.keys()
    weights = model.loss_weights(batch)
    assert {name: float(w) for name, w in weights.items()} == {
        "cola": 2, "mnli": 2, "stsb": 1, "qnli": 0
    }  # fmt: skip
    for task, name in (("glue_mnli", "mnli"), ("stsb", "stsb")):
        alone = model.of_task(task)
        own = np.array([model.head_of(one) == name for one in order])
        rows = {k: v[own] for k, v in batch.items() if k != "task"}
        rows["label"] = rows["label"].astype(np.float32 if name == "stsb" else np.int32)
        expected, of_one = loss_of(alone, params, rows)
        assert terms[name] == pytest.approx(float(expected["loss"]), rel=1e-5)
        assert metrics[name][0] == pytest.approx(float(of_one["loss"][0]), rel=1e-5)
        assert alone.loss_terms == {"loss": 1.0}
    assert {"cola_label_accuracy", "mnli_label_accuracy"} <= metrics.keys()
    assert float(terms["qnli"]) == 0


@pytest.mark.slow
def test_a_batch_of_one_task_moves_the_encoder_and_that_tasks_head(model, params):
    batch = rows_of("cola", "cola")

    def loss(params):
        return total(model.loss(params, batch)[0], scales(model, model.loss_weights(batch)))

    gradient = jax.jit(jax.grad(loss))(params)
    moved = {
        name
        for name, tree in gradient.items()
        if any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tree))
    }
    heads = {name for name in params if name.startswith("output_heads_")}
    assert heads == {f"output_heads_{name}" for name in HEADS}
    assert moved == params.keys() - heads | {"output_heads_cola"}


def test_relevance_is_of_each_candidate_by_itself(model, params):
    batch = rows_of("qnli", "qnli", candidates=3)
    found = predictions_of(model.of_task("qnli"), params, batch)
    flat = {
        name: batch[name].reshape(6, 8)
        for name in ("encoder_input_tokens", "encoder_token_types", "encoder_segment_ids")
    }
    alone = outputs_of(model, params, flat)["qnli"]
    np.testing.assert_allclose(found["relevance"], alone.reshape(2, 3), atol=1e-5)
    assert found["label"].tolist() == found["relevance"].argmax(axis=1).tolist()


@pytest.mark.slow
def test_of_ranked_rows_another_task_reads_the_first_candidate(model, params):
    batch = rows_of("cola", "qnli", candidates=2)
    first = {name: x[:, 0] if x.ndim == 3 else x for name, x in batch.items()}
    whole, alone = (loss_of(model, params, rows)[0]["cola"] for rows in (batch, first))
    assert whole == pytest.approx(float(alone), rel=1e-5)


def test_relevance_worked_by_hand():
    """exp(2), exp(0) and exp(1) over their sum; the relevant candidate is the first."""
    relevance = jnp.array([[2.0, 0.0, 1.0]])
    batch = {"label": jnp.array([0]), "label_weight": jnp.array([1])}
    found = Ranking().predictions(relevance)["probabilities"][0]
    np.testing.assert_allclose(found, (0.665241, 0.090031, 0.244728), atol=1e-6)
    loss, metrics = Ranking().loss(relevance, batch)
    assert loss == pytest.approx(0.407606, abs=1e-6)
    assert metrics["label_accuracy"] == (1, 1)
    # gamma of 2 squares the odds: 1 / (1 + e^-4 + e^-2).
    assert Ranking(scale=2.0).loss(relevance, batch)[0] == pytest.approx(
        np.log(1 + np.exp(-4) + np.exp(-2)), abs=1e-6
    )


def test_what_it_says_of_one_task_has_that_tasks_names(model, params):
    batch = rows_of("glue_mnli_mismatched")
    alone = model.of_task("glue_mnli_mismatched")
    assert alone.label_names == {"label": ("a", "b", "c")} and not model.label_names
    assert alone.batch_format == "sequence_classification"
    assert model.of_task("stsb").batch_format == "sequence_regression"
    assert model.of_task("qnli").batch_format == "ranked_candidates"
    one, all_heads = (predictions_of(m, params, batch) for m in (alone, model))
    assert one.keys() == {"label", "probabilities", "hidden_states", "pooled"}
    np.testing.assert_array_equal(one["probabilities"], all_heads["mnli_probabilities"])
    assert one["probabilities"].sum() == pytest.approx(1, abs=1e-5)


def test_the_encoder_is_berts(model, params):
    """Its checkpoints start it, and it starts BERT's."""
    bert = encoder(BERT, head=Classification(("no", "yes")), num_layers=1)
    shapes = jax.eval_shape(bert.init, jax.random.key(0))["params"]
    of_encoder = {name: value for name, value in params.items() if "output_head" not in name}
    assert jax.tree.map(jnp.shape, of_encoder) == jax.tree.map(
        jnp.shape, {name: value for name, value in shapes.items() if "output_head" not in name}
    )
    batch = {k: v for k, v in rows_of("cola").items() if k.startswith("encoder_")}
    head = {"output_head": params["output_heads_cola"]}
    expected = outputs_of(bert, of_encoder | head, batch)
    found = outputs_of(model, params, batch)["cola"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"heads": {}}, "a head for each task is needed"),
        ({"heads": {"loss": Regression()}}, "'loss' is no name for a head"),
        ({"heads": {"a b": Regression()}}, "'a b' is no name"),
        ({"heads": {"x": 3}}, "that of 'x' is none of the four kinds"),
        ({"heads": HEADS, "tasks": {"glue_rte": "rte"}}, "a head 'rte', which is none"),
        ({"heads": HEADS, "task": "rte"}, "no head for the task 'rte': it has those of cola"),
    ],
)
def test_heads_that_cannot_be(fields, said):
    with pytest.raises(ModelError, match=said):
        encoder(MTDNN, **fields)


def test_a_task_has_the_number_that_its_data_give_it():
    # The check value of CRC-32, without its highest bit.
    assert task_number("123456789") == formats.task_number("123456789") == 0x4BF43926
    names = ("glue_mnli_labels", "glue_qqp_labels")
    assert [task_number(n) for n in names] == [formats.task_number(n) for n in names]


@pytest.mark.parametrize("name", ["mnli", "qnli"])
def test_a_model_of_one_task_has_none_of_the_heads_that_need_more(name):
    with pytest.raises(ModelError, match=r"BERT.head is .*one of the heads of MTDNN"):
        encoder(BERT, head=HEADS[name]).abstract_params()
