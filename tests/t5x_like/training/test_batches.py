"""What the first batch of a run is checked for."""

import numpy as np
import pytest

from models.bert import BERT
from models.distilled import Distilled
from models.roberta import RoBERTa
from models.structbert import StructBERT
from models.unilm import UniLM
from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner
from t5x_like.training.batches import check_batch

SIZES = {
    "vocab_size": 16, "embed_dim": 8, "num_heads": 1, "num_layers": 1, "mlp_dim": 8, "max_length": 8
}  # fmt: skip


def batch(types=(0, 1), label=1):
    return {
        "encoder_input_tokens": np.full((2, 4), 9),
        "encoder_token_types": np.array([types * 2] * 2),
        "pair_label": np.array([0, label]),
    }


@pytest.mark.parametrize("kind", [BERT, RoBERTa, StructBERT])
def test_a_batch_of_the_models_own_is_accepted(kind):
    assert check_batch(batch(), kind(**SIZES), Partitioner()).keys() == batch().keys()
    # A single type is every token's; three kinds of pairs are StructBERT's own.
    if kind is RoBERTa:
        check_batch(batch((1, 2)), kind(**SIZES), Partitioner())
    if kind is StructBERT:
        check_batch(batch(label=2), kind(**SIZES), Partitioner())


@pytest.mark.parametrize("kind", [BERT, UniLM])
@pytest.mark.parametrize(
    ("name", "made"),
    [("encoder_token_types", batch((0, 2))), ("pair_label", batch(label=2))],
)
def test_numbers_that_a_model_does_not_tell_apart_are_named(kind, name, made):
    """Where a table has fewer rows a lookup gives NaN, or the last row; a loss no lower bound."""
    more = {"mask_id": 15} if kind is UniLM else {}
    with pytest.raises(UserError, match=f"{name} has the number 2, but {kind.__name__} tells 2"):
        check_batch(made, kind(**SIZES, **more), Partitioner())


def test_a_student_and_its_teacher_read_one_batch():
    student = BERT(**SIZES, use_next_sentence_head=False)
    model = Distilled(student=student, teacher=BERT(**SIZES, num_token_types=4))
    check_batch(batch(label=2), student, Partitioner())
    with pytest.raises(UserError, match="pair_label has the number 2"):
        check_batch(batch(label=2), model, Partitioner())
    with pytest.raises(UserError, match="encoder_token_types has the number 3"):
        check_batch(batch((0, 3)), model, Partitioner())
