"""What a decoder reads first: what its vocabulary says, or the cache in its place."""

import dataclasses
import json

import pytest

from t5x_like import data
from t5x_like.errors import UserError

LENGTHS = {"inputs": 32, "targets": 16}


@dataclasses.dataclass(frozen=True)
class Starting:
    """Bytes that begin with a certain id; `start_token` names it."""

    start_token: str | None = None
    start_id: int = 0
    zero_is_token = False
    vocab_size, extra_ids, eos_id, unk_id = 359, 100, 1, 2

    def spec(self):
        sizes = {"vocab_size": 359, "extra_ids": 100, "eos_id": 1, "unk_id": 2}
        return {**sizes, "start_id": self.start_id, "start_token": self.start_token}


class Elsewhere:
    """A vocabulary whose file is not on this host."""

    start_token = None

    @property
    def start_id(self):
        raise FileNotFoundError("spiece.model")

    def spec(self):
        raise FileNotFoundError("spiece.model")


@pytest.fixture
def cached(kit, pairs, tmp_path):
    """A task with a cache whose task.json has some spec more."""

    def make(name, vocabulary, **recorded):
        task = kit.task(name)
        folder = kit.write(task, tmp_path, pairs[:16])
        for feature in task.output_features.values():
            feature.vocabulary = vocabulary
        path = folder / "task.json"
        description = json.loads(path.read_text())
        for feature in description["features"].values():
            feature["vocabulary"] |= recorded
        path.write_text(json.dumps(description))
        return task

    return make


def first_tokens(task, tmp_path):
    """Of every segment of a packed batch and of every row of an evaluation."""
    config = data.DatasetConfig(task, LENGTHS, tmp_path, batch_size=4, prefetch=0)
    with data.open_dataset(config, batch_format="encoder_decoder") as batches:
        batch = next(batches)
    begins = (batch["decoder_positions"] == 0) & (batch["decoder_segment_ids"] > 0)
    assert begins.sum() > 4
    (first, *_) = data.open_evaluation(config, batch_format="prefix_language_model")
    rows = first.batch["decoder_input_tokens"][:, 0]
    return {*batch["decoder_input_tokens"][begins].tolist(), *rows.tolist()}


def test_every_row_begins_with_the_vocabularys_token(cached, tmp_path):
    assert first_tokens(cached("bytes", Starting()), tmp_path) == {0}
    assert first_tokens(cached("llama", Starting("<s>", 7), start_id=7), tmp_path) == {7}


def test_the_cache_stands_in_for_the_vocabularys_file(cached, tmp_path):
    there = Elsewhere()
    assert first_tokens(cached("new", there, start_id=7, start_token=None), tmp_path) == {7}


def test_what_a_decoder_begins_with_is_not_guessed(cached, tmp_path):
    """The cache was written before start tokens were, and the vocabulary's file is elsewhere."""
    with pytest.raises(UserError, match=r"begins with is neither in its cache.*nor known here"):
        first_tokens(cached("old", Elsewhere()), tmp_path)


def test_a_token_set_after_the_cache_was_made_is_taken(cached, tmp_path):
    recorded = {"start_id": 0, "start_token": None}
    assert first_tokens(cached("set", Starting("</s>", 5), **recorded), tmp_path) == {5}
    # And where the cache does not say, what generation begins with.
    assert first_tokens(cached("unsaid", Starting(None, 6)), tmp_path) == {6}


def test_a_mixture_has_one_start_token(cached, kit, tmp_path):
    members = [(cached("a", Starting()), 1.0), (cached("b", Starting("<s>", 7)), 1.0)]
    config = data.DatasetConfig(kit.mixture("both", members), LENGTHS, tmp_path, batch_size=4)
    with pytest.raises(UserError, match="token 0 in task 'a' and with 7 in 'b'"):
        data.open_dataset(config, batch_format="prefix_language_model")
