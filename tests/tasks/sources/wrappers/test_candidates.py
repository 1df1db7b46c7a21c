"""Single rows of a query and a candidate as queries with two candidates."""

from tasks import get_mixture_or_task, ranked, sources
from tasks.sources import Candidates

ROWS = [
    ("Who?", "Ann did.", "0"),
    ("When?", "Soon.", "1"),
    ("Who?", "It rained.", "1"),
    ("Who?", "Then.", "1"),
    ("Why?", "So.", "0"),
    ("When?", "At noon.", "0"),
    ("When?", "Later.", "-1"),
]


def source(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in ROWS))
    files = {"train": str(path), "validation": str(path)}
    return Candidates(sources.TabSeparated(files=files, columns=("question", "sentence", "label")))


def test_each_relevant_candidate_stands_beside_each_other(tmp_path):
    found = list(source(tmp_path).rows("train"))
    pairs = []
    for row in found:
        place = int(row["relevant"])
        texts = (row["first"], row["second"])
        pairs.append((row["question"], texts[place], texts[1 - place]))
    # "Why?" has no other, and the row without a label is of neither kind.
    assert pairs == [
        ("Who?", "Ann did.", "It rained."),
        ("Who?", "Ann did.", "Then."),
        ("When?", "At noon.", "Soon."),
    ]
    assert list(source(tmp_path).rows("train", ("all",))) == found
    assert list(source(tmp_path).rows("train", ())) == []


def test_neither_place_is_favoured(tmp_path):
    path = tmp_path / "many.tsv"
    rows = [f"q{i}\t{text}\t{label}\n" for i in range(400) for label, text in enumerate("ab")]
    path.write_text("".join(rows))
    many = sources.TabSeparated(
        files={"train": str(path)}, columns=("question", "sentence", "label")
    )
    places = [int(row["relevant"]) for row in Candidates(many).rows("train")]
    assert len(places) == 400 and 160 < sum(places) < 240


def test_a_task_of_them_has_texts_and_the_place(tmp_path):
    task = ranked("who", source(tmp_path))
    (first, *_) = task.examples("validation")
    assert first["inputs"] == "Who?" and first["label"] in (0, 1)
    assert {first["inputs_1"], first["inputs_2"]} == {"Ann did.", "It rained."}
    assert task.cached_features == ("inputs", "inputs_1", "inputs_2")
    assert list(task.output_features) == ["inputs"]


def test_the_fingerprint_knows_rows_and_settings(tmp_path):
    one = source(tmp_path)
    prints = {one.fingerprint(), Candidates(one.source, relevant="1").fingerprint()}
    (tmp_path / "rows.tsv").write_text("a\tb\t0\n")
    assert len({*prints, one.fingerprint()}) == 3


def test_a_data_directory_reaches_the_dataset_of_qnlis_ranking():
    task = get_mixture_or_task("glue_qnli_ranking", tfds_data_dir="somewhere")
    assert task.source.source.data_dir == "somewhere"
    mixture = get_mixture_or_task("glue_mt_dnn")
    assert [task.name for task, _ in mixture.tasks][-1] == "glue_qnli_ranking"
    assert len(mixture.tasks) == 9
