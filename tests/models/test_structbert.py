"""StructBERT by hand: three labels for a pair (Wang et al. 2020)."""

import jax
import jax.numpy as jnp
import numpy as np

from models.bert import BERT
from models.structbert import StructBERT
from tests.models.families import V, batch_for, drawn

sizes = dict(
    vocab_size=V, embed_dim=24, mlp_dim=40, num_heads=3, num_layers=1, max_length=32
)  # fmt: skip


def test_it_is_bert_with_one_label_more_for_a_pair():
    """H and 1 more parameters: a column of the head of pairs."""
    ours, berts = StructBERT(**sizes), BERT(**sizes)
    assert ours.parameter_count() - berts.parameter_count() == 24 + 1
    assert ours.loss_terms == {"masked_language_model": 1.0, "sentence_structure": 1.0}


def test_the_loss_of_pairs_is_of_three_labels():
    model = StructBERT(**sizes)
    params, batch = drawn(model), batch_for(model, rows=3)
    batch |= {"pair_label": jnp.array([2, 0, 1])}
    run = jax.jit(
        lambda params: (
            model.loss(params, batch),
            model.apply({"params": params}, **batch, method="next_sentence_logits"),
            model.predict(params, batch),
        )
    )
    (sums, metrics), scores, found = run(params)
    assert scores.shape == (3, 3)
    by_hand = -sum(jax.nn.log_softmax(scores)[i, label] for i, label in enumerate((2, 0, 1)))
    np.testing.assert_allclose(sums["sentence_structure"], by_hand, rtol=1e-5)
    assert metrics["sentence_structure"][1] == 3
    probabilities = found["sentence_structure_probabilities"]
    np.testing.assert_allclose(probabilities, jax.nn.softmax(scores), rtol=1e-5)
