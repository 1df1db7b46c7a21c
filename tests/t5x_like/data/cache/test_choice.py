"""Which cache is taken by a host that does not see what caches were made of."""

import dataclasses
import json

import pytest

import tasks
from t5x_like import data
from t5x_like.data.cache import choice, layout
from tasks import filters, sources, vocabularies


@pytest.fixture
def cached(write_cache, tmp_path):
    """A task with a cache; what `task.json` says of it can be changed."""
    (tmp_path / "text.txt").write_text("one\ntwo\n")

    def make(source=None, **changed):
        source = source or sources.TextFiles(files={"train": f"{tmp_path}/text.txt"})
        task = tasks.unsupervised("text", source)
        write_cache(task, tmp_path / "caches", {"train": ["one", "two"]})
        path = layout.task_path(layout.cache_path(tmp_path / "caches", "text"))
        described = json.loads(path.read_text()) | {"source": repr(source)} | changed
        path.write_text(json.dumps(described))
        return task, tmp_path / "caches"

    return make


def is_taken(task, caches):
    """Whether the only cache is."""
    return not choice.choose(task, caches, None, True).others


def test_the_file_of_a_filter_may_be_elsewhere(cached, tmp_path):
    (tmp_path / "words.txt").write_text("three\n")
    source = sources.TextFiles(files={"train": f"{tmp_path}/text.txt"})
    _, caches = cached(sources.Filtered(source, (filters.BadWords(f"{tmp_path}/words.txt"),)))
    away = sources.Filtered(source, (filters.BadWords(f"{tmp_path}/elsewhere/words.txt"),))
    report = data.cache_status(tasks.unsupervised("text", away), caches)
    assert report.status is data.CacheStatus.READY


@pytest.mark.parametrize(
    "features",
    [[], 3, {"targets": 3}, {"targets": {"vocabulary": [1]}}, {"inputs": {}}, None],
    ids=str,
)
def test_a_cache_whose_vocabularies_are_not_known_is_taken(cached, features):
    assert is_taken(*cached(features=features))


@pytest.mark.parametrize(
    ("spec", "taken"),
    [
        ({}, True),
        ({"full_stop_ids": [1]}, True),  # which decides no id
        ({"kind": "sentencepiece"}, False),
        ({"vocab_size": 7}, False),
    ],
    ids=str,
)
def test_a_cache_of_another_vocabulary_is_not_taken(cached, spec, taken):
    features = {"targets": {"vocabulary": vocabularies.ByteVocabulary().spec() | spec}}
    assert is_taken(*cached(features=features)) == taken


def test_vocabularies_that_are_not_here_are_compared_by_the_names_of_their_files(cached, tmp_path):
    spec = {"kind": "sentencepiece", "file": "/elsewhere/v.model", "sha256": "0"}
    task, caches = cached(features={"targets": {"vocabulary": spec}})
    for name, taken in (("v.model", True), ("w.model", False)):
        vocabulary = vocabularies.SentencePieceVocabulary(f"{tmp_path}/{name}")
        features = {"targets": tasks.Feature(vocabulary)}
        away = dataclasses.replace(task, output_features=features)
        assert is_taken(away, caches) == taken
