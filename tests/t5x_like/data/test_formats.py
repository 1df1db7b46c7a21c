"""The batch formats give what seqio's converters give, and what its documentation shows."""

import numpy as np
import pytest

from t5x_like.data import formats
from t5x_like.data.formats import TaskFacts
from t5x_like.errors import UserError

BOTH, TARGETS = ("inputs", "targets"), ("targets",)


def enc_dec(zero_is_token=False, positioned=False, start_id=0):
    places = TARGETS if positioned else ()
    return formats.bound("encoder_decoder", TaskFacts(BOTH, None, zero_is_token, places, start_id))


def lm(zero_is_token=False, start_id=0):
    return formats.bound(
        "causal_language_model", TaskFacts(TARGETS, None, zero_is_token, (), start_id)
    )


def prefix_lm(zero_is_token=False, start_id=0):
    return formats.bound(
        "prefix_language_model", TaskFacts(BOTH, None, zero_is_token, (), start_id)
    )


def ids(*values):
    return np.array(values, np.int32)


# The two examples of the docstrings in seqio's feature_converters.py.
TWO = [
    {"inputs": ids(7, 8, 5, 1), "targets": ids(3, 9, 1)},
    {"inputs": ids(8, 4, 9, 3, 1), "targets": ids(4, 1)},
]


def one_row(converter, examples, lengths, pack=True):
    batch = converter.batch([[converter.item(e) for e in examples]], lengths, pack)
    return {name: array[0].tolist() for name, array in batch.items()}


def test_enc_dec_packs_as_documented():
    assert one_row(enc_dec(), TWO, {"inputs": 10, "targets": 7}) == {
        "encoder_input_tokens": [7, 8, 5, 1, 8, 4, 9, 3, 1, 0],
        "encoder_segment_ids": [1, 1, 1, 1, 2, 2, 2, 2, 2, 0],
        "encoder_positions": [0, 1, 2, 3, 0, 1, 2, 3, 4, 0],
        "decoder_target_tokens": [3, 9, 1, 4, 1, 0, 0],
        "decoder_input_tokens": [0, 3, 9, 0, 4, 0, 0],
        "decoder_loss_weights": [1, 1, 1, 1, 1, 0, 0],
        "decoder_segment_ids": [1, 1, 1, 2, 2, 0, 0],
        "decoder_positions": [0, 1, 2, 0, 1, 0, 0],
    }


def test_lm_packs_as_documented():
    assert one_row(lm(), TWO, {"targets": 6}) == {
        "decoder_target_tokens": [3, 9, 1, 4, 1, 0],
        "decoder_input_tokens": [0, 3, 9, 0, 4, 0],
        "decoder_loss_weights": [1, 1, 1, 1, 1, 0],
        "decoder_positions": [0, 1, 2, 0, 1, 0],
        "decoder_segment_ids": [1, 1, 1, 2, 2, 0],
    }


def test_prefix_lm_packs_as_documented():
    assert one_row(prefix_lm(), TWO, {"inputs": 7, "targets": 8}) == {
        "decoder_target_tokens": [7, 8, 5, 1, 3, 9, 1, 8, 4, 9, 3, 1, 4, 1, 0],
        "decoder_input_tokens": [0, 7, 8, 5, 1, 3, 9, 0, 8, 4, 9, 3, 1, 4, 0],
        "decoder_loss_weights": [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0],
        "decoder_positions": [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0],
        "decoder_segment_ids": [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0],
        "decoder_causal_attention": [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0],
    }


def test_prefix_lm_pads_as_documented():
    example = {"inputs": ids(9, 4, 6, 1), "targets": ids(3, 9, 1)}
    assert one_row(prefix_lm(), [example], {"inputs": 10, "targets": 4}, pack=False) == {
        "decoder_target_tokens": [9, 4, 6, 1, 3, 9, 1, 0, 0, 0, 0, 0, 0, 0],
        "decoder_input_tokens": [0, 9, 4, 6, 1, 3, 9, 1, 0, 0, 0, 0, 0, 0],
        "decoder_loss_weights": [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        "decoder_causal_attention": [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    }


# Of x1 to x8, the decoder predicts x3 to x6, and EOS after them (Song et al. 2019, figure 1).
SPAN = {
    "inputs": ids(11, 12, 9, 9, 9, 9, 17, 18, 1),
    "targets": ids(13, 14, 15, 16, 1),
    "targets_positions": ids(2, 3, 4, 5, 6),
}


@pytest.mark.parametrize("pack", [False, True])
def test_targets_keep_the_positions_that_they_bring(pack):
    # Beside the second example, which brings none.
    examples = [SPAN, TWO[0]] if pack else [SPAN]
    lengths = {"inputs": 14, "targets": 9}
    batch = one_row(enc_dec(positioned=True), examples, lengths, pack)
    assert batch["decoder_positions"] == [2, 3, 4, 5, 6, *([0, 1, 2] if pack else [0] * 3), 0]
    without = one_row(enc_dec(), examples, lengths, pack)
    if pack:
        assert without.pop("decoder_positions") == [0, 1, 2, 3, 4, 0, 1, 2, 0]
    del batch["decoder_positions"]
    assert batch == without


def test_every_segment_begins_with_the_start_token():
    # GPT-2's `<|endoftext|>`, say, is 6 here; the padding begins anew too, as in seqio.
    packed = one_row(lm(start_id=6), TWO, {"targets": 7})
    assert packed["decoder_input_tokens"] == [6, 3, 9, 6, 4, 6, 0]
    assert packed["decoder_target_tokens"] == [3, 9, 1, 4, 1, 0, 0]
    # BART's decoder reads `</s>`, 2, and then the text, in which `<s>`, 0, is a token.
    bart = enc_dec(zero_is_token=True, start_id=2)
    example = {"inputs": ids(0, 7, 8, 2), "targets": ids(0, 5, 9, 2)}
    padded = one_row(bart, [example], {"inputs": 5, "targets": 6}, pack=False)
    assert padded["decoder_input_tokens"] == [2, 0, 5, 9, 2, 0]
    assert padded["decoder_target_tokens"] == [0, 5, 9, 2, 0, 0]
    assert padded["decoder_loss_weights"] == [1, 1, 1, 1, 0, 0]
    assert padded["encoder_input_tokens"] == [0, 7, 8, 2, 0]


@pytest.mark.parametrize("converter", [enc_dec(True), lm(True), prefix_lm(True)])
@pytest.mark.parametrize("pack", [False, True])
def test_where_zero_is_a_token_only_lengths_tell_it_from_padding(converter, pack):
    example = {"inputs": ids(0, 7, 0), "targets": ids(5, 0, 1)}
    batch = one_row(converter, [example], {"inputs": 5, "targets": 5}, pack)
    start = 3 if converter == prefix_lm(True) else 0
    loss_weights = batch["decoder_loss_weights"]
    assert loss_weights[: start + 3] == [0] * start + [1, 1, 1] and sum(loss_weights) == 3
    assert batch["decoder_target_tokens"][start : start + 3] == [5, 0, 1]
    assert batch["decoder_input_tokens"][start : start + 4] == [0, 5, 0, 0 if pack else 1]
    if converter == enc_dec(True):
        assert batch["encoder_input_tokens"] == [0, 7, 0, 0, 0]
        assert batch["encoder_segment_ids"] == [1, 1, 1, 0, 0]
        assert ("decoder_segment_ids" in batch) == pack


def test_rows_without_an_example_are_all_zeros():
    for converter in (enc_dec(), enc_dec(True, True), lm(), prefix_lm()):
        for pack in (False, True):
            batch = converter.batch([(), ()], {"inputs": 4, "targets": 3}, pack)
            assert all(array.shape[0] == 2 and not array.any() for array in batch.values())


def test_an_example_longer_than_its_row_is_a_fault():
    items = [enc_dec().item(TWO[0])] * 3
    with pytest.raises(ValueError, match="12 tokens do not fit a row of 10"):
        enc_dec().batch([items], {"inputs": 10, "targets": 20}, True)


def sequentially(examples, sizes_of, capacities):
    """seqio's own packing: a row is closed as soon as the next example does not fit.

    seqio packs within batches of as many examples as the longest feature has tokens.
    """
    batch = max(capacities)
    for first in range(0, len(examples), batch):
        row, room = [], list(capacities)
        for example in examples[first : first + batch]:
            sizes = sizes_of(example)
            if any(size > left for size, left in zip(sizes, room, strict=True)):
                yield row
                row, room = [], list(capacities)
            row.append(example)
            room = [left - size for size, left in zip(sizes, room, strict=True)]
        yield row


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    ("name", "start_id"), [("EncDec", 0), ("EncDec", 2), ("LM", 0), ("LM", 98), ("PrefixLM", 0)]
)
def test_equal_to_seqio_on_the_same_rows(name, start_id, pack):
    import seqio
    import tensorflow as tf

    rng = np.random.default_rng(3)
    lengths = {"inputs": 24, "targets": 17}
    examples = [
        {
            k: rng.integers(1, 99, rng.integers(1, n + 1)).astype(np.int32)
            for k, n in lengths.items()
        }
        for _ in range(100)
    ]
    if name == "LM":
        lengths = {"targets": 17}
        examples = [{"targets": e["targets"]} for e in examples]
    converter = {"EncDec": enc_dec, "LM": lm, "PrefixLM": prefix_lm}[name](start_id=start_id)
    spec = {k: tf.TensorSpec([None], tf.int32) for k in lengths}
    source = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
    theirs = getattr(seqio, f"{name}FeatureConverter")(pack=pack, bos_id=start_id)
    wanted = list(theirs(source, lengths).as_numpy_iterator())

    items = [converter.item(e) for e in examples]
    capacities = converter.capacities(lengths)
    rows = (
        list(sequentially(items, lambda item: [p.size for p in item.parts], capacities))
        if pack
        else [[item] for item in items]
    )
    batch = converter.batch(rows, lengths, pack)
    assert len(rows) == len(wanted)
    assert set(batch) == set(wanted[0])
    for feature, array in batch.items():
        assert array.dtype == np.int32
        np.testing.assert_array_equal(array, np.stack([row[feature] for row in wanted]), feature)


def test_a_language_model_s_format_follows_from_the_task_s_features():
    facts = TaskFacts(TARGETS)
    for name in ("prefix_language_model", "causal_language_model"):
        batch = formats.bound(name, facts).batch([()], {"targets": 4}, False)
        assert "decoder_causal_attention" not in batch
    causal = formats.bound("causal_language_model", TaskFacts(BOTH))
    example = {"inputs": ids(9, 4, 6, 1), "targets": ids(3, 9, 1)}
    found = one_row(causal, [example], {"inputs": 10, "targets": 4}, pack=False)
    whole = one_row(prefix_lm(), [example], {"inputs": 10, "targets": 4}, pack=False)
    assert found == {k: v for k, v in whole.items() if k != "decoder_causal_attention"}


def test_a_model_that_needs_inputs_says_so():
    with pytest.raises(UserError, match="needs the feature 'inputs'"):
        formats.bound("encoder_decoder", TaskFacts(TARGETS))


def test_an_unknown_format_is_answered_with_those_that_there_are():
    with pytest.raises(UserError, match="no batch format 'encoder': there are causal_comparisons"):
        formats.find("encoder")


@pytest.mark.parametrize(
    ("name", "examples", "words"),
    [
        ("masked_language_model", TARGETS, "lack 'inputs'"),
        ("masked_language_model", BOTH, "lack 'loss_weights'"),
        ("causal_language_model", (*BOTH, "loss_weights"), "have 'loss_weights', which it does"),
        ("prefix_language_model", (*BOTH, "pair_label"), "have 'pair_label', which it does not"),
        ("contiguous_language_model", BOTH, "have 'inputs', which it does not read"),
    ],
)
def test_what_an_objective_writes_is_all_read_or_refused(name, examples, words):
    with pytest.raises(UserError, match=words):
        formats.bound(name, TaskFacts(TARGETS, examples))


# -- Rows that say in which directions they are seen -----------------------------------------------


def multidirectional(features, start_id=0):
    examples = ("inputs", "targets", "loss_weights", "mask_kind", "prefix_length")
    if "inputs" in features:
        examples = ("inputs", "targets", "hidden_targets", "loss_weights")
    facts = TaskFacts(features, examples, False, (), start_id)
    return formats.bound("multidirectional_language_model", facts)


def test_a_row_says_how_it_is_seen():
    example = {
        "inputs": ids(0, 9, 1, 6, 1), "targets": ids(0, 5, 1, 6, 1),
        "loss_weights": ids(0, 1, 0, 0, 0), "token_types": ids(0, 0, 0, 1, 1),
        "mask_kind": np.int32(3), "prefix_length": np.int32(3),
    }  # fmt: skip
    bound = multidirectional(TARGETS)
    batch = bound.batch([[bound.item(example)], []], {"targets": 6}, pack=False)
    assert batch["encoder_input_tokens"].tolist() == [[0, 9, 1, 6, 1, 0], [0] * 6]
    assert batch["encoder_segment_ids"].tolist() == [[1, 1, 1, 1, 1, 0], [0] * 6]
    assert batch["row_mask_kind"].tolist() == [3, 0]
    assert batch["row_prefix_length"].tolist() == [3, 0]
    assert batch["row_mask_kind"].dtype == np.int32
    # Without a kind it is seen in both directions.
    plain = {name: x for name, x in example.items() if name not in ("mask_kind", "prefix_length")}
    batch = bound.batch([[bound.item(plain)]], {"targets": 6}, pack=False)
    assert batch["row_mask_kind"].tolist() == [0]


def test_a_pair_is_a_row_whose_second_segment_is_written():
    example = {
        "inputs": ids(7, 8, 1), "targets": ids(4, 5, 1), "hidden_targets": ids(4, 9, 9),
        "loss_weights": ids(0, 1, 1),
    }  # fmt: skip
    bound = multidirectional(BOTH, start_id=2)
    lengths = {"inputs": 4, "targets": 3}
    assert bound.capacities(lengths) == (8,)
    batch = bound.batch([[bound.item(example)]], lengths, pack=False)
    assert {name: x[0].tolist() for name, x in batch.items()} == {
        "encoder_input_tokens": [2, 7, 8, 1, 4, 9, 9, 0],
        "encoder_target_tokens": [2, 7, 8, 1, 4, 5, 1, 0],
        "encoder_loss_weights": [0, 0, 0, 0, 0, 1, 1, 0],
        "encoder_token_types": [0, 0, 0, 0, 1, 1, 1, 0],
        "encoder_segment_ids": [1, 1, 1, 1, 1, 1, 1, 0],
        "pair_label": 0,
        "pair_weight": 0,
        "row_mask_kind": 3,
        "row_prefix_length": 4,
    }


def test_a_prompt_takes_a_place_more_for_the_mask():
    assert formats.find("multidirectional_language_model").prompts.decoder_length(5) == 6
    assert formats.find("prefix_language_model").prompts.decoder_length(5) == 5


def test_of_a_conversation_the_replies_count_and_each_end_is_learned():
    read, learned = [5, 6, 7, 8, 9, 1], [5, 6, 7, 1, 9, 1]
    names = ("targets", "learned_targets", "learned")
    example = dict(zip(names, (ids(*read), ids(*learned), ids(0, 0, 1, 1, 0, 1)), strict=True))
    cut = {**example, "targets": ids(*read[:3])}
    facts = TaskFacts(TARGETS, names)
    bound = formats.bound("causal_language_model", facts)
    packed = one_row(bound, [example, cut], {"targets": 10})
    assert packed["decoder_input_tokens"] == [0, 5, 6, 7, 8, 9, 0, 5, 6, 0]
    assert packed["decoder_target_tokens"] == [*learned, *learned[:3], 0]
    assert packed["decoder_loss_weights"] == [0, 0, 1, 1, 0, 1, 0, 0, 1, 0]


# -- Heads of decoders ---------------------------------------------------------------------------

LABELLED = ("inputs", "token_types", "label")


def test_a_decoder_reads_a_labelled_row_and_predicts_each_token_from_those_before_it():
    """The released code of GPT-1: targets `X[:, 1:]`, weights `M[:, 1:]`."""
    made = formats.bound("causal_sequence_classification", TaskFacts(("inputs",), LABELLED))
    example = {"inputs": ids(9, 5, 6, 8), "token_types": ids(0, 0, 0, 0), "label": np.int32(1)}
    assert one_row(made, [example], {"inputs": 6}, False) == {
        "decoder_input_tokens": [9, 5, 6, 8, 0, 0],
        "decoder_segment_ids": [1, 1, 1, 1, 0, 0],
        "decoder_target_tokens": [5, 6, 8, 0, 0, 0],
        "decoder_loss_weights": [1, 1, 1, 0, 0, 0],
        "label": 1,
        "label_weight": 1,
    }


def test_an_encoder_decoder_reads_a_labelled_row_twice_the_second_time_one_place_on():
    """As `shift_tokens_right` of transformers, from its start token on."""
    facts = TaskFacts(("inputs",), LABELLED, start_id=2)
    made = formats.bound("encoder_decoder_sequence_classification", facts)
    example = {"inputs": ids(9, 5, 6, 8), "token_types": ids(0, 0, 0, 0), "label": np.int32(1)}
    assert one_row(made, [example], {"inputs": 6}, False) == {
        "encoder_input_tokens": [9, 5, 6, 8, 0, 0],
        "encoder_segment_ids": [1, 1, 1, 1, 0, 0],
        "decoder_input_tokens": [2, 9, 5, 6, 0, 0],
        "decoder_segment_ids": [1, 1, 1, 1, 0, 0],
        "label": 1,
        "label_weight": 1,
    }


def test_a_pair_in_both_orders_is_two_rows():
    facts = TaskFacts(("inputs",), (*LABELLED, "inputs_reversed"))
    made = formats.bound("causal_sequence_regression", facts)
    example = {
        "inputs": ids(9, 5, 7, 6, 8),
        "inputs_reversed": ids(9, 6, 7, 5, 8),
        "token_types": ids(0, 0, 0, 1, 1),
        "label": np.float32(2.5),
    }
    batch = made.batch([[made.item(example)], []], {"inputs": 6}, False)
    assert batch["decoder_input_tokens"].tolist() == [
        [[9, 5, 7, 6, 8, 0], [9, 6, 7, 5, 8, 0]],
        [[0] * 6, [0] * 6],
    ]
    assert batch["decoder_target_tokens"][0, 1].tolist() == [6, 7, 5, 8, 0, 0]
    assert batch["label"].tolist() == [2.5, 0] and batch["label_weight"].tolist() == [1, 0]


def test_an_encoder_does_not_read_both_orders():
    facts = TaskFacts(("inputs",), (*LABELLED, "inputs_reversed"))
    with pytest.raises(UserError, match="have 'inputs_reversed', which it does not read"):
        formats.bound("sequence_regression", facts)


OF_SENTENCES = {
    "inputs": ids(9, 5, 6, 9),
    "token_types": ids(0, 0, 1, 1),
    "sentence_ids": ids(0, 1, 2, 0),
}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("masked_language_model", {"targets": ids(9, 5, 7, 9), "loss_weights": ids(0, 0, 1, 0)}),
        ("sequence_classification", {"label": np.int32(1)}),
        ("sequence_regression", {"label": np.float32(0.5)}),
        ("token_classification", {"tags": ids(2, 1), "word_places": ids(1, 2)}),
        ("span_extraction", {"span_start": np.int32(1), "span_end": np.int32(2)}),
    ],
)
def test_sentences_are_beside_what_a_format_has(name, own):
    plain, numbered = (formats.find(x) for x in (name, f"{name}_with_sentences"))
    for attribute in ("measured", "extracted"):
        assert getattr(numbered, attribute, None) == getattr(plain, attribute, None)
    feature = numbered.task_features[0]
    example, lengths = {**OF_SENTENCES, **own}, {feature: 6}
    facts = TaskFacts((feature,), tuple(example))
    bound = formats.bound(f"{name}_with_sentences", facts)
    batch = bound.batch([[bound.item(example)], ()], lengths, False)
    assert batch["encoder_sentence_ids"].tolist() == [[0, 1, 2, 0, 0, 0], [0] * 6]
    assert batch.pop("encoder_sentence_ids").dtype == np.int32
    without = plain.bind(facts)
    expected = without.batch([[without.item(example)], ()], lengths, False)
    assert batch.keys() == expected.keys()
    for feature in batch:
        np.testing.assert_array_equal(batch[feature], expected[feature])


def test_a_model_that_reads_sentences_and_a_task_without_are_told_apart():
    lm = ("inputs", "targets", "loss_weights", "token_types")
    with pytest.raises(UserError, match="the task's examples lack 'sentence_ids'"):
        formats.bound("masked_language_model_with_sentences", TaskFacts(TARGETS, lm))
    with pytest.raises(UserError, match="have 'sentence_ids', which it does not read"):
        formats.bound("masked_language_model", TaskFacts(TARGETS, (*lm, "sentence_ids")))


def test_the_same_targets_count_whichever_format_reads_the_inputs():
    """By which encoder-decoders and decoders that see a prefix, or not, can be compared."""
    causal = formats.bound("causal_language_model", TaskFacts(BOTH, None, False, (), 0))
    lengths = {"inputs": 4, "targets": 3}
    examples = [
        {"inputs": ids(7, 8, 5, 1), "targets": ids(3, 9, 1)},
        {"inputs": ids(6, 6, 2, 1), "targets": ids(4, 2, 1)},
    ]
    for converter in (enc_dec(), prefix_lm(), causal):
        rows = [[converter.item(example)] for example in examples]
        batch = converter.batch(rows, lengths, False)
        counted = batch["decoder_loss_weights"] > 0
        assert batch["decoder_target_tokens"][counted].tolist() == [3, 9, 1, 4, 2, 1]
        # Without padding on any side.
        read = [x for name, x in batch.items() if name.endswith("target_tokens")]
        assert all((x != 0).all() for x in read)
