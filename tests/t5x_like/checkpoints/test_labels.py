"""A head that is kept has the classes that it learned."""

import jax
import numpy as np
import pytest

from models.bert import BERT
from models.heads import Classification
from t5x_like.checkpoints.host_params import write_params
from t5x_like.checkpoints.initial import InitialCheckpoint, checked_start
from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner, split_boxes
from t5x_like.training import state


def bert(*labels):
    return BERT(
        vocab_size=16, embed_dim=8, num_heads=1, num_layers=1, mlp_dim=8, max_length=8,
        head=Classification(labels),
    )  # fmt: skip


def start(path, model, **options):
    target = state.placed_params(model, Partitioner(devices=tuple(jax.devices()[:1])))
    return checked_start(InitialCheckpoint(str(path), **options), model, target)


@pytest.mark.parametrize(
    ("learned", "fits"),
    [
        (("yes", "no"), True),
        (("Yes", "NO"), True),
        (("LABEL_0", "LABEL_1"), True),  # what they stand for is the user's to know
        (("no", "yes"), False),
    ],
)
def test_classes_in_another_order_are_refused(tmp_path, learned, fits):
    shapes, _ = split_boxes(bert(*learned).abstract_params())
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    write_params(str(tmp_path), params, 3, {"labels": {"label": list(learned)}})
    if fits:
        assert not start(tmp_path, bert("yes", "no")).fresh
        return
    with pytest.raises(UserError, match=r"a head for the labels no, yes, and this .* are yes, no"):
        start(tmp_path, bert("yes", "no"))
    # A head of its own starts fresh.
    assert start(tmp_path, bert("yes", "no"), include=["^(?!output_head/)"]).fresh
