"""Special tokens that rows of a split spell out are read as the cache has them, in prompts too."""

import json
import re

import pytest

import tasks
from t5x_like.data import DatasetConfig
from t5x_like.data.records import open_records
from t5x_like.decoding.options import Reading
from t5x_like.evaluation import Continuation, Ranking, Shots
from t5x_like.evaluation.prompts.split_text import codec_of_split
from t5x_like.evaluation.prompts.text_prompts import text_prompts
from t5x_like.evaluation.task import evaluate_params
from tasks import forms, sources
from tasks.vocabularies import ByteVocabulary
from tests.models.families import drawn, gpt2
from tests.t5x_like.evaluation.written_cache import write_cache

MODEL = gpt2(vocab_size=384, max_length=64)
# As text three tokens, else one.
SPELLED, ID = "<s>", 300


class Spelling(ByteVocabulary):
    """Bytes, but for one special token."""

    special_tokens = re.compile(SPELLED)

    def encode(self, text):
        first, *others = (self.encode_as_text(part) for part in text.split(SPELLED))
        return first + [i for part in others for i in (ID, *part)]

    def encode_as_text(self, text):
        return super().encode(text)


def written(directory, special_tokens, form, row):
    lines = json.dumps(row) + "\n"
    files = {split: str(directory / f"{split}.jsonl") for split in ("train", "validation")}
    for split in files:
        (directory / f"{split}.jsonl").write_text(lines * 2)
    source = sources.JsonLines(files=files, columns=tuple(row))
    few_shot = forms.FewShot(separator="\n")
    task = tasks.text_to_text(
        "spelled", source, form, vocabulary=Spelling(), special_tokens=special_tokens,
        few_shot=few_shot,
    )  # fmt: skip
    write_cache(task, directory / "cache")
    return DatasetConfig(
        task, {"inputs": 64, "targets": 16}, str(directory / "cache"), "validation"
    )


@pytest.mark.parametrize(
    ("special_tokens", "sizes"), [(None, [3, 2]), ("text", [3, 2]), ("ids", [1, 2])]
)
def test_options_have_as_many_tokens_as_the_cache_says(tmp_path, special_tokens, sizes):
    """Of a user's own file, which JSON lines are, they are text unless it is said otherwise."""
    row = {"question": "a", "options": [SPELLED, "ab"], "label": 0}
    dataset = written(tmp_path, special_tokens, forms.Options("{question}:"), row)
    (cached, _) = open_records(dataset, ("targets",))
    (result,) = evaluate_params(MODEL, drawn(MODEL), dataset, measurements=[Ranking()])
    found = result.predictions["ranking"][0].tokens
    # With the space before an option.
    assert found == [size + 1 for size in sizes] and len(cached["targets"]) == sizes[0]


@pytest.mark.parametrize(("special_tokens", "size"), [("text", 3), ("ids", 1)])
def test_contexts_and_examples_too(tmp_path, special_tokens, size):
    row = {"question": f"a{SPELLED}", "answer": SPELLED}
    dataset = written(tmp_path, special_tokens, forms.Template("{question}", "{answer}"), row)
    of_targets = evaluate_params(MODEL, drawn(MODEL), dataset, measurements=[Continuation()])
    assert of_targets[0].predictions["continuation"][0].tokens == size + 1
    codec = codec_of_split(dataset, MODEL)
    examples = list(open_records(dataset, ("inputs_pretokenized", "targets_pretokenized")))
    for shots, count in ((0, 1), (1, 3)):  # how often it is in a prompt
        found = text_prompts(
            MODEL, codec, dataset, examples, [0, 1], Reading("text"), Shots(shots), 4
        )
        assert [tokens.count(ID) for tokens in found.tokens] == [count * (size == 1)] * 2
        others = found.texts[0].replace(SPELLED, "")
        assert len(found.tokens[0]) == len(others) + count * size
        assert codec.decode(found.tokens[0]) == (others if size == 1 else found.texts[0])
