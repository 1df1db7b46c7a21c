"""Options of `generation_config.json`: kept to, left out by name, or without effect."""

import json

import pytest

from models.errors import ModelError
from models.hf.generation import GENERATION, generation_config, generation_options

DRAWS = {"do_sample": True, "temperature": 1.0, "top_k": 50, "top_p": 1.0}


def read(directory, options, *, encoder_decoder=False, max_length=1024, name=GENERATION):
    (directory / name).write_text(json.dumps(options))
    return generation_options(directory, encoder_decoder=encoder_decoder, max_length=max_length)


@pytest.mark.parametrize(
    ("options", "kept_to"),
    [
        # LLaMA 2's own; transformers draws from the 50 likeliest where nothing is said.
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 4096},
         {**DRAWS, "temperature": 0.6, "top_p": 0.9}),
        ({"do_sample": True, "top_k": 0}, {**DRAWS, "top_k": 0}),
        # Of greedy decoding, knobs of draws change nothing.
        ({"temperature": 0.6, "top_k": 5, "min_p": 0.1}, {}),
        ({"do_sample": False, "num_beams": 1}, {"do_sample": False}),
        ({"num_beams": 4, "length_penalty": 2.0, "early_stopping": False},
         {"num_beams": 4, "length_penalty": 2.0}),
        ({"num_beams": 4}, {"num_beams": 4, "length_penalty": 1.0}),
        ({"max_new_tokens": 64, "min_new_tokens": 5, "repetition_penalty": 1.2},
         {"max_new_tokens": 64, "min_new_tokens": 5, "repetition_penalty": 1.2}),
        ({"stop_strings": "Q:"}, {"stop_strings": ["Q:"]}),
        ({"stop_strings": ["Q:", "\n"], "min_new_tokens": 0, "repetition_penalty": 1},
         {"stop_strings": ["Q:", "\n"]}),
        # What every file has, and what says how a program runs.
        ({"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0, "use_cache": False,
          "transformers_version": "4.31.0", "_from_model_config": True, "output_scores": True,
          "return_dict_in_generate": True, "cache_implementation": "static", "typical_p": 1.0,
          "num_return_sequences": 1, "bad_words_ids": [], "suppress_tokens": None,
          "no_repeat_ngram_size": 0, "renormalize_logits": False, "num_assistant_tokens": 5}, {}),
    ],
)  # fmt: skip
def test_options_that_are_kept_to(tmp_path, options, kept_to):
    found = read(tmp_path, options)
    assert found.kept_to == kept_to and found.left_out == {}


@pytest.mark.parametrize(
    "left_out",
    [
        {"no_repeat_ngram_size": 3},
        {"forced_bos_token_id": 0},
        {"forced_eos_token_id": 2},
        {"suppress_tokens": [5]},
        {"bad_words_ids": [[7]]},
        {"exponential_decay_length_penalty": [5, 1.1]},
        {"max_length": 20},  # of prompt and text together
        {"min_length": 10},
        {"renormalize_logits": True},
        {"an_option_of_tomorrow": 3},
    ],
)
def test_options_that_are_left_out_are_told_by_name(tmp_path, left_out):
    found = read(tmp_path, left_out)
    assert found.left_out == left_out and found.kept_to == {}


def test_what_is_left_out_depends_on_the_strategy(tmp_path):
    assert read(tmp_path, {"do_sample": True, "min_p": 0.1}).left_out == {"min_p": 0.1}
    beams = {"num_beams": 2, "do_sample": True, "early_stopping": True, "length_penalty": -1.0}
    found = read(tmp_path, beams)
    assert found.left_out == {"do_sample": True, "early_stopping": True, "length_penalty": -1.0}
    assert found.kept_to == {"num_beams": 2, "length_penalty": 0.0}


def test_lengths_of_an_encoder_decoder_count_its_start_token(tmp_path):
    # BART's for CNN/Daily Mail.
    found = read(tmp_path, {"max_length": 142, "min_length": 56}, encoder_decoder=True)
    assert found.kept_to == {"max_new_tokens": 141, "min_new_tokens": 55}
    found = read(tmp_path, {"max_length": 142, "max_new_tokens": 9}, encoder_decoder=True)
    assert found.kept_to == {"max_new_tokens": 9}


def test_an_old_directory_says_it_in_its_config(tmp_path):
    options = {"model_type": "bart", "d_model": 24, "num_beams": 4, "no_repeat_ngram_size": 3}
    found = read(tmp_path, options, name="config.json")
    assert found.kept_to == {"num_beams": 4, "length_penalty": 1.0}
    assert found.left_out == {"no_repeat_ngram_size": 3}
    # Where there is the other file, it alone counts.
    assert read(tmp_path, {}).kept_to == {}


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": "hot"},
        {"temperature": 0.0},
        {"do_sample": "yes"},
        {"top_k": -1},
        {"top_p": 1.5},
        {"num_beams": 0},
        {"max_new_tokens": 2.5},
        {"repetition_penalty": 0},
        {"stop_strings": [""]},
        {"min_new_tokens": True},
        {"early_stopping": "soon"},
        {"length_penalty": float("nan")},
    ],
)
def test_values_that_are_none_are_refused_by_name(tmp_path, options):
    ((name, value),) = options.items()
    with pytest.raises(ModelError, match=rf"generation_config.json: {name} .* is not"):
        read(tmp_path, options)
    assert value is not None


def test_options_that_replace_a_directorys_leave_the_others(tmp_path):
    before = {"do_sample": True, "top_p": 0.9, "max_length": 20, "no_repeat_ngram_size": 3}
    (tmp_path / GENERATION).write_text(json.dumps(before))
    config = {"eos_token_id": [8, 9], "vocab_size": 50}
    assert generation_config(config, tmp_path) == {**before, "eos_token_id": [8, 9]}
    assert generation_config(config, tmp_path, {"do_sample": False}) == {
        "do_sample": False, "max_length": 20, "no_repeat_ngram_size": 3, "eos_token_id": [8, 9]
    }  # fmt: skip
    assert generation_config(config, None, {"num_beams": 4})["num_beams"] == 4


@pytest.mark.interop
def test_what_transformers_takes_where_nothing_is_said_is_as_it_is_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    usual = transformers.GenerationConfig._get_default_generation_params()
    found = read(tmp_path, {**usual, "do_sample": True}, encoder_decoder=True)
    assert found.kept_to == {**DRAWS, "max_new_tokens": usual["max_length"] - 1}
    assert found.left_out == {}
    # Every option of today's class is one of those that are known.
    for name, value in transformers.GenerationConfig().to_dict().items():
        assert read(tmp_path, {name: value}).left_out == {}, name
