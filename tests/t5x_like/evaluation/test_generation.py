"""What is measured of generated text where it is one of several, and what `infer` writes of it."""

import dataclasses

import pytest

from t5x_like.decoding import GenerationConfig, Sampling, TextGeneration
from t5x_like.decoding.prompt_files import PromptFile
from t5x_like.errors import UserError
from t5x_like.evaluation import Generation, answering, generation
from t5x_like.evaluation.answering import GeneratedText
from t5x_like.evaluation.measurement import Subject
from t5x_like.partitioning import Partitioner
from tasks import metrics
from tests.models.families import WRITERS
from tests.t5x_like.test_evaluate import Copying, Mixed, config  # noqa: F401 (a fixture)

CHOSEN = TextGeneration(
    "ab", -1.0, True, [3, 4],
    [TextGeneration("x", -3.0, False, [5]), TextGeneration("ab", -1.0, True, [3, 4])], 1,
)  # fmt: skip


def subject(config):  # noqa: F811
    return Subject(WRITERS["t5_1_1"](), None, config, Partitioner())


def test_a_line_has_all_samples_and_the_votes(config, monkeypatch):  # noqa: F811
    asked = {}

    def answered(model, params, codec, prompts, **arguments):
        asked.update(arguments)
        return [CHOSEN] * len(prompts)

    monkeypatch.setattr(generation, "answer_prompts", answered)
    measured = Generation(Sampling(), 9, 4, samples=2, stop_strings=["z"])
    found = measured.measure(subject(config))
    line = dataclasses.asdict(found.predictions[0])
    assert line == {
        "inputs": "abc?", "targets": "cba", "predictions": "ab", "scores": -1.0,
        "samples": ("x", "ab"), "sample_scores": (-3.0, -1.0), "votes": 1,
    }  # fmt: skip
    settings = GenerationConfig(9, Sampling(), stop_strings=["z"], samples=2, choice="vote", seed=4)
    assert asked["config"] == settings
    assert found.settings["decoding"] == str(settings)
    # What votes is what the task's postprocessor finds: the first letter.
    assert asked["answer_of"](0, "xyz") == "x"


def test_what_cannot_be_generated_names_the_task(config):  # noqa: F811
    with pytest.raises(UserError, match="task 'copying', split validation: eos_ids has 500"):
        Generation(eos_ids=[500]).measure(subject(config))
    with pytest.raises(UserError, match="draws nothing"):
        Generation(samples=3)  # before anything is read


def one_alone_is_undefined(targets, predictions):
    if len(targets) < 2:
        raise ValueError("two or more are needed")
    return {"known": 1.0}


def test_metrics_that_do_not_take_what_is_expected_are_told_before_anything_is_generated(
    config,  # noqa: F811
    monkeypatch,
):
    def of(*functions):
        task = dataclasses.replace(config.task, metric_fns=functions)
        return subject(dataclasses.replace(config, task=task))

    monkeypatch.setattr(generation, "answer_prompts", lambda *given, **named: pytest.fail("late"))
    with pytest.raises(UserError, match=r"task 'copying': metrics.f1 got the text 'c': .*LabelCla"):
        Generation().measure(of(metrics.f1))
    with pytest.raises(UserError, match=r"squad2_best_threshold is of what a head for spans says"):
        Generation().measure(of(metrics.squad2_best_threshold))

    def answered(model, params, codec, prompts, **arguments):
        return [CHOSEN] * len(prompts)

    monkeypatch.setattr(generation, "answer_prompts", answered)
    # A text is one accepted answer; and what one example does not decide is no refusal.
    found = Generation().measure(of(metrics.squad, one_alone_is_undefined))
    assert found.values["em"] == 0 and found.values["known"] == 1


class Continued(Copying):
    """Its postprocessor reads no example."""

    def postprocess(self, text, example, is_target):
        return text[-1:]


def answerer(task, **settings):
    prompts = PromptFile("-", "text", "inputs")
    how = GenerationConfig(5, Sampling(), samples=2, **settings)
    lengths = {"inputs": 8, "targets": 8}
    return GeneratedText(WRITERS["t5_1_1"](), task, lengths, prompts, config=how, batch_size=2)


def test_infer_writes_all_samples_and_votes_by_the_tasks_answers(monkeypatch):
    asked = {}

    def generated(model, params, codec, texts, **arguments):
        asked.update(arguments)
        for count in (1, 2, 1):  # of four texts
            arguments["progress"](count)
        return [CHOSEN, dataclasses.replace(CHOSEN, samples=(), votes=None)]

    monkeypatch.setattr(answering, "answer_prompts", generated)
    voting = answerer(Continued("continued"), choice="vote")
    done = []
    first, second = voting(["a", "b"], 0, done.append)
    assert sum(done) == 2  # prompts
    assert first == {
        "predictions": "ab", "scores": -1.0, "samples": ["x", "ab"],
        "sample_scores": [-3.0, -1.0], "votes": 1, "decoding": voting.settings,
    }  # fmt: skip
    assert second == {"predictions": "ab", "scores": -1.0, "decoding": voting.settings}
    assert asked["answer_of"](1, "xyz") == "z"


def test_a_mixture_has_no_one_way_to_find_answers():
    mixture = Mixed("both", ((Continued("a"), 1.0), (Continued("b"), 1.0)))
    with pytest.raises(UserError, match="choice is 'vote', but 'both' is a mixture"):
        answerer(mixture, choice="vote")
    assert answerer(mixture).settings.endswith("choice=likelihood, seed=0")
