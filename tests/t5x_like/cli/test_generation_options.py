"""`generation_config.json` goes into a run's gin file and comes out again."""

import json
import shutil

import pytest

from t5x_like import cli, config
from t5x_like.cli import generation_options
from t5x_like.decoding import BeamSearch, Greedy, Sampling, Temperature, TopK, TopP
from t5x_like.errors import UserError
from t5x_like.runs.own_generation import generation_config, own_settings
from tests.models.hf.config_keys import HERE

FILE = "generation_config.json"
NOTHING_ASKED = dict.fromkeys(
    ["temperature", "top_k", "top_p", "strategy", "max_new_tokens", "min_new_tokens",
     "repetition_penalty", "stop_strings"]
) | {"samples": 1, "choice": "likelihood", "seed": 0, "longest": 32}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


def imported(tmp_path, options):
    source, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(HERE / "fixtures" / "gpt2", source, ignore=shutil.ignore_patterns("*.npz"))
    (source / FILE).write_text(json.dumps(options))
    assert cli.main(["import-hf", str(source), f"--out={run}"]) == 0
    return run


def exported(tmp_path, run, *flags):
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    assert cli.main(["export-hf", str(run), f"--out={out}", *flags]) == 0
    return json.loads((out / FILE).read_text())


def infers_with(run, *flags):
    config.parse([f"{run}/config.gin", "runs/infer.gin"], [f.split("=", 1) for f in flags])
    return {name: config.macro(name) for name in (*generation_options.MACROS, "EOS_IDS")}


@pytest.mark.slow
def test_a_run_generates_as_its_source_would_and_goes_back_as_it_came(tmp_path, capsys):
    options = {
        "do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.2,
        "max_new_tokens": 20, "min_new_tokens": 2, "stop_strings": ["\n\n", "Q:"],
        "no_repeat_ngram_size": 3, "eos_token_id": [5, 6],
    }  # fmt: skip
    run = imported(tmp_path, options)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith("asks for: no_repeat_ngram_size 3.\n")
    assert "# Not kept to: no_repeat_ngram_size 3." in (run / "config.gin").read_text()

    strategy = Sampling((Temperature(0.6), TopK(50), TopP(0.9)))
    found = infers_with(run)
    assert found["STRATEGY"] == strategy
    assert (found["MAX_NEW_TOKENS"], found["MIN_NEW_TOKENS"]) == (20, 2)
    assert (found["REPETITION_PENALTY"], found["STOP_STRINGS"]) == (1.2, ["\n\n", "Q:"])
    assert infers_with(run, "TEMPERATURE=0.9")["STRATEGY"].filters[0] == Temperature(0.9)

    own = own_settings(str(run))
    asked = generation_config(own, **NOTHING_ASKED)
    assert (asked.strategy, asked.max_new_tokens, asked.min_new_tokens) == (strategy, 20, 2)
    assert (asked.repetition_penalty, asked.stop_strings) == (1.2, ("\n\n", "Q:"))
    # Whoever asks for a temperature means no filter that was not asked for.
    asked = generation_config(own, **{**NOTHING_ASKED, "temperature": 0.0, "stop_strings": []})
    assert (asked.strategy, asked.stop_strings) == (Greedy(), ())

    ids = {"eos_token_id": [5, 6], "bos_token_id": 0}  # the second of config.json
    assert exported(tmp_path, run) == options | ids
    changed = exported(tmp_path, run, "--gin.TEMPERATURE=0.0", "--gin.MIN_NEW_TOKENS=0")
    assert changed == {
        "do_sample": False, "num_beams": 1, "repetition_penalty": 1.2, "max_new_tokens": 20,
        "min_new_tokens": 0, "stop_strings": ["\n\n", "Q:"], "no_repeat_ngram_size": 3,
        **ids,
    }  # fmt: skip


def test_beams_are_searched_by_the_rule_of_transformers(tmp_path):
    run = imported(tmp_path, {"num_beams": 3, "length_penalty": 2.0, "eos_token_id": 5})
    assert infers_with(run)["STRATEGY"] == BeamSearch(3, 2.0, "transformers")
    asked = generation_config(own_settings(str(run)), **NOTHING_ASKED)
    assert asked.strategy == BeamSearch(3, 2.0, "transformers")
    assert exported(tmp_path, run)["num_beams"] == 3


def test_without_options_a_run_generates_as_ever(tmp_path):
    run = imported(tmp_path, {"eos_token_id": 5, "transformers_version": "4.31.0"})
    assert own_settings(str(run)) == {}
    assert infers_with(run)["STRATEGY"] == Greedy()
    assert generation_config({}, **NOTHING_ASKED).strategy == Sampling(())


@pytest.mark.parametrize(
    "strategy",
    [BeamSearch(4, 0.6), Sampling((TopP(0.9), Temperature(0.5))), Sampling((TopK(3), TopK(2)))],
)
def test_a_strategy_that_transformers_has_no_options_for_is_refused(strategy, monkeypatch):
    monkeypatch.setattr(config, "has_macro", lambda name: name == "STRATEGY")
    monkeypatch.setattr(config, "macro", lambda name: strategy)
    with pytest.raises(UserError, match=r"STRATEGY is .* which no options of transformers say"):
        generation_options.configured()


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (Sampling(()), {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}),
        (Sampling((Temperature(0.5), TopP(0.9))),
         {"do_sample": True, "temperature": 0.5, "top_k": 0, "top_p": 0.9}),
        (Sampling((TopK(5),)), {"do_sample": True, "temperature": 1.0, "top_k": 5, "top_p": 1.0}),
    ],
)  # fmt: skip
def test_draws_are_written_with_all_that_transformers_would_else_assume(
    strategy, options, monkeypatch
):
    monkeypatch.setattr(config, "has_macro", lambda name: name == "STRATEGY")
    monkeypatch.setattr(config, "macro", lambda name: strategy)
    assert generation_options.configured() == options
