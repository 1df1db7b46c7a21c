"""Near duplicates on Beam: the same list, byte for byte, as this machine alone makes."""

import importlib.util
import json
import random

import numpy as np
import pytest

from t5x_like import cli
from t5x_like.errors import UserError
from t5x_like.near_duplicates import on_beam
from t5x_like.near_duplicates.deduplicate import deduplicate
from t5x_like.near_duplicates.documents import DocumentRule
from t5x_like.near_duplicates.lines import LineRule
from t5x_like.near_duplicates.minhash import Bands

RULES = [
    pytest.param(DocumentRule(), id="near"),
    pytest.param(DocumentRule(n=2, bands=Bands(20, 2)), id="much"),
    pytest.param(DocumentRule(exact=True), id="exact"),
    pytest.param(LineRule(), id="lines"),
]
# What DirectRunner ends up with where it cannot download another one, which it tries first.
RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class Texts:
    """Documents in memory, in four shards, one of them empty; those that are read are counted."""

    def __init__(self):
        draw = random.Random(0)
        first = [" ".join(f"w{draw.randrange(10**6)}" for _ in range(90)) for _ in range(12)]
        near = [" ".join([*text.split()[:-2], "other", str(i)]) for i, text in enumerate(first)]
        chained = [" ".join(["x", *text.split()[1:]]) for text in near[:5]]
        lines = ["Menu\nOne.\n\nmenu", "", "Two.\nMENU\nTwo.", first[3], "Menu\nOne.\n\nmenu"]
        self._shards = [first[:7], [], first[7:] + near, chained + lines]
        self.broken = None

    def shards(self, split):
        return [str(number) for number in range(len(self._shards))]

    def texts(self, split, shard):
        if shard == self.broken:
            raise UserError("page 3 is not UTF-8")
        return iter(self._shards[int(shard)])

    def settings(self):
        return {"source": "the same"}


@pytest.mark.parametrize("rule", RULES)
def test_links_between_equal_keys_lead_to_what_sorting_all_keys_does(rule):
    """As the pipeline makes them, without Beam."""
    texts = Texts()
    arrays = [
        {**rule.arrays(texts.texts("train", shard)), "total": np.int64(0)}
        for shard in texts.shards("train")
    ]
    numbers = {}
    for shard, each in enumerate(arrays):
        for key, place in rule.keyed(each):
            numbers.setdefault(key, []).append(shard * on_beam._PLACES + place)
    links = [link for key, same in numbers.items() for _, link in on_beam._links(key, same[::-1])]
    places, further = rule.dropped(arrays)
    found, further_found = rule.dropped_of_links(np.array(links, np.int64))
    expected = [shard * on_beam._PLACES + np.array(each) for shard, each in enumerate(places)]
    assert found.tolist() == np.concatenate(expected).tolist()
    assert further_found == further
    assert len(found) >= (1 if rule == DocumentRule(exact=True) else 5)


@pytest.mark.interop
@pytest.mark.parametrize("rule", RULES)
def test_the_list_is_the_same_byte_for_byte(rule, tmp_path):
    pytest.importorskip("apache_beam")
    here, beam = tmp_path / "here" / "list.jsonl", tmp_path / "beam" / "list.jsonl"
    expected = deduplicate(Texts(), ["train"], here, rule)
    assert deduplicate(Texts(), ["train"], beam, rule, pipeline_options=[RUNNER]) == expected
    assert beam.read_bytes() == here.read_bytes()
    assert [path.name for path in beam.parent.iterdir()] == ["list.jsonl"]


@pytest.mark.interop
def test_a_shard_that_cannot_be_read_is_told_and_the_others_are_kept(tmp_path):
    pytest.importorskip("apache_beam")
    texts, path = Texts(), tmp_path / "lists" / "list.jsonl"
    texts.broken = "2"
    with pytest.raises(UserError, match=r"^page 3 is not UTF-8$"):
        deduplicate(texts, ["train"], path, DocumentRule(), pipeline_options=[RUNNER])
    assert not path.exists()
    assert len(list(path.parent.glob("*.keys-*/train-0000[013].npz"))) == 3
    texts.broken = "0"  # whose keys are there
    deduplicate(texts, ["train"], path, DocumentRule(), pipeline_options=[RUNNER])
    expected = tmp_path / "expected.jsonl"
    deduplicate(Texts(), ["train"], expected, DocumentRule())
    assert path.read_bytes() == expected.read_bytes()


@pytest.mark.interop
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--runnr=DataflowRunner", "--pipeline_options: Beam has no option --runnr."),
        ("--runner=Fast", "--pipeline_options: Unexpected pipeline runner: Fast."),
    ],
)
def test_what_beam_does_not_have_is_refused(tmp_path, flag, said):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match=said):
        deduplicate(
            Texts(), ["train"], tmp_path / "list.jsonl", DocumentRule(), pipeline_options=[flag]
        )


@pytest.mark.interop
def test_the_command_runs_it_in_several_processes(tmp_path, capsys):
    pytest.importorskip("apache_beam")
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"One text.\n\nOne of {name}.")
    flags = ["--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={tmp_path}/*.txt"]
    flags += ["--gin.HELD_OUT=0", f"--out={tmp_path}/lists", "--json"]
    workers = "--direct_num_workers=2,--direct_running_mode=multi_processing"
    assert cli.main(["dedup", *flags, f"--pipeline_options={RUNNER},{workers}"]) == 0
    found = json.loads(capsys.readouterr().out)["text_files"]
    assert (found["documents"], found["dropped"], found["clusters"]) == (4, 1, 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--pipeline_options needs `pip install 't5x-like[beam]'`"),
        (["--num_workers=2"], "--num_workers is for this machine"),
    ],
)
def test_without_beam_the_command_says_what_to_install(tmp_path, capsys, monkeypatch, flags, said):
    (tmp_path / "a.txt").write_text("One text.")
    find = importlib.util.find_spec
    without = lambda name, *more: None if name == "apache_beam" else find(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    command = ["dedup", "--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={tmp_path}/*.txt"]
    command += ["--gin.HELD_OUT=0", f"--out={tmp_path}/lists", f"--pipeline_options={RUNNER}"]
    assert cli.main([*command, *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
