"""`t5x-like ensemble`: a run of several, that is opened, scored and asked like any other."""

import dataclasses
import re
import shutil

import jax
import numpy as np
import pytest

from models import gpt, tuning
from t5x_like import load_run
from t5x_like.checkpoints.host_params import write_params
from t5x_like.cli import main
from t5x_like.cli.averaging.ensembles import check_vocabularies
from t5x_like.errors import UserError
from t5x_like.protocols import vocabulary_differences
from tasks.vocabularies import SentencePieceVocabulary, train_sentencepiece
from tests.conftest import TASK_GIN

GIN = """
from __gin__ import dynamic_registration
from models import gpt
MODEL = @gpt.GPT2()
gpt.GPT2:
  vocab_size = 384
  embed_dim = {width}
  num_heads = {heads}
  num_layers = 1
  max_length = 32
"""
TUNED = """
from models import model
from models import tuning
model.Model.tuning = @tuning.LoRA()
tuning.LoRA.rank = 2
"""


# Of a file that begins with what both need.
TASK = TASK_GIN.replace("from __gin__ import dynamic_registration\n", "")


def written(folder, name, model, gin, task_gin):
    made = jax.jit(model.init)(jax.random.key(len(name)))["params"]
    params = jax.tree.map(lambda x: 3 * np.asarray(x), made)
    write_params(str(folder / name), params, 7, {"tokens": 100})
    (folder / name / "config.gin").write_text(f"{gin}{task_gin}MODEL_DIR = '{folder / name}'\n")
    return str(folder / name)


@pytest.fixture(scope="module")
def runs(proverbs, tmp_path_factory):
    """Two runs of one vocabulary, the first tuned in part and the other wider."""
    folder = tmp_path_factory.mktemp("members")
    task, cache_dir = proverbs
    task_gin = TASK.format(files=dict(task.source.files), cache_dir=cache_dir)
    sizes = {"first": (8, 2), "second": (12, 3)}
    made = []
    for name, (width, heads) in sizes.items():
        tuned = tuning.LoRA(rank=2) if name == "first" else None
        model = gpt.GPT2(
            vocab_size=384, embed_dim=width, num_heads=heads, num_layers=1, max_length=32,
            tuning=tuned,
        )  # fmt: skip
        gin = GIN.format(width=width, heads=heads) + (TUNED if tuned else "")
        made.append(written(folder, name, model, gin, task_gin))
    return made


@pytest.fixture(scope="module")
def both(runs, tmp_path_factory):
    """The ensemble of both."""
    out = str(tmp_path_factory.mktemp("ensemble") / "both")
    assert main(["ensemble", *runs, f"--out={out}"]) == 0
    return load_run(out)


@pytest.mark.slow
def test_each_member_is_as_it_was(both, runs):
    """What the first run binds for all models, its tuning, is not the second's."""
    members = [load_run(run) for run in runs]
    assert tuple(both.model.members) == tuple(run.model for run in members)
    assert both.model.members[1].tuning is None
    assert both.step == 7
    for number, run in enumerate(members):
        jax.tree.map(np.testing.assert_array_equal, both.params[f"member_{number}"], run.params)


@pytest.mark.slow
def test_it_scores_as_the_mean_of_its_members_and_generates(both, runs):
    """Of one token, the probability is the mean of the two."""
    texts = ["a", "b", "Z"]
    each, found = (
        [np.exp(run.score(targets=texts, end_token=False)) for run in some]
        for some in ([load_run(run) for run in runs], [both])
    )
    np.testing.assert_allclose(found[0], (each[0] + each[1]) / 2, rtol=1e-4)
    assert np.abs(each[0] / each[1] - 1).max() > 0.01
    assert isinstance(both.generate([""], temperature=0.0, max_new_tokens=3)[0], str)


def test_one_vocabulary_may_be_in_two_files(tmp_path):
    """As two imported directories have it, or a reward model and its policy."""
    texts = ["many hands make light work", "still waters run deep"] * 20
    for name in ("a", "b", "other"):
        (tmp_path / name).mkdir()
    train_sentencepiece(texts, str(tmp_path / "a" / "spiece.model"), vocab_size=26)
    shutil.copy(tmp_path / "a" / "spiece.model", tmp_path / "b")
    train_sentencepiece(texts, str(tmp_path / "other" / "spiece.model"), vocab_size=25)
    first, same, other = (
        SentencePieceVocabulary(str(tmp_path / name / "spiece.model"))
        for name in ("a", "b", "other")
    )
    check_vocabularies(["a", "b"], [first, same])
    with pytest.raises(UserError, match=r"'other' has another vocabulary than 'a' \(vocab_size"):
        check_vocabularies(["a", "b", "other"], [first, same, other])
    assert vocabulary_differences(first, same) == []
    changed = dataclasses.replace(same, extra_ids=7)
    found = vocabulary_differences(first, changed)
    assert "extra_ids 7, not 100" in found and not any("spiece.model" in one for one in found)
    assert any(f"'{other.path}', not" in one for one in vocabulary_differences(first, other))


def test_runs_that_read_other_tokens_are_refused_in_one_line(runs, proverbs, tmp_path, capsys):
    task, cache_dir = proverbs
    other = TASK.format(files=dict(task.source.files), cache_dir=cache_dir) + (
        "from tasks import vocabularies\n"
        "tasks.unsupervised.vocabulary = @vocabularies.ByteVocabulary()\n"
        "vocabularies.ByteVocabulary.extra_ids = 50\n"
    )
    model = gpt.GPT2(vocab_size=384, embed_dim=12, num_heads=3, num_layers=1, max_length=32)
    place = written(tmp_path, "other", model, GIN.format(width=12, heads=3), other)
    assert main(["ensemble", runs[1], place, f"--out={tmp_path / 'both'}"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"has another vocabulary than .*extra_ids 50, not", said)
    assert said.count("\n") == 1
    assert not (tmp_path / "both").exists()
    assert main(["ensemble", runs[0], f"--out={tmp_path / 'both'}"]) == 2
    assert "two or more members are needed" in capsys.readouterr().err
    assert main(["ensemble", *runs, str(tmp_path / "none"), f"--out={tmp_path / 'both'}"]) == 2
