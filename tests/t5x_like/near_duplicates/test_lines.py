"""Copies of lines: which are the same, and what is left of documents."""

import json

import numpy as np
import pytest

from t5x_like.errors import UserError
from t5x_like.near_duplicates import deduplicate, lines
from t5x_like.near_duplicates.lines import LineRule, copies
from tasks.errors import TaskError
from tasks.sources import Deduplicated, TextFiles


@pytest.mark.parametrize(
    ("line", "c4", "ccnet"),
    [
        ("  Read MORE.  ", "read more.", "read more"),
        ("On 12 May 2019: Café!", "on 12 may 2019: café!", "on 00 may 0000 cafe"),
        ("\t", "", ""),
        ("बाल काला", "बाल काला", "बाल काला"),  # vowels that take space: "बोल कीला" is another
        ("बोल कीला", "बोल कीला", "बोल कीला"),
    ],
)
def test_what_is_compared(line, c4, ccnet):
    assert lines.NORMALIZATIONS["c4"](line) == c4
    assert lines.NORMALIZATIONS["ccnet"](line) == ccnet


def test_the_first_of_equal_keys_stays():
    keys = np.random.default_rng(0).integers(0, 300, 1000).astype(np.uint64)
    seen, expected = set(), []
    for key in keys.tolist():
        expected.append(key in seen)
        if key:  # 0 is a blank line's
            seen.add(key)
    assert copies(keys).tolist() == expected


PAGES = ["Menu\nOne story.\n\nRead more", "menu \nAnother story.\n\nMenu", "READ MORE\n\nMenu"]


def test_copies_of_lines_are_cut_out_of_documents(tmp_path):
    for i, page in enumerate(PAGES):
        (tmp_path / f"{i}.txt").write_text(page)
    source = TextFiles(files={"train": f"{tmp_path}/*.txt"})

    class Documents:
        shards = source.shards

        def settings(self):
            return {"source": source.fingerprint(), "columns": ["text"], "form": "PlainText()"}

        def texts(self, split, shard):
            return (row["text"] for row in source.rows(split, [shard]))

    path = tmp_path / "lists" / "list.jsonl"
    found = deduplicate.deduplicate(Documents(), ["train"], path, LineRule())
    assert (found["documents"], found["all_lines"], found["dropped"]) == (3, 8, 4)
    assert list(map(json.loads, path.read_text().splitlines()))[1:] == [
        {"split": "train", "shard": 1, "lines": [0, 3]},
        {"split": "train", "shard": 2, "lines": [0, 2]},
    ]
    left = Deduplicated(source, str(path))
    assert [row["text"] for row in left.rows("train")] == [PAGES[0], "Another story.\n"]
    assert left.dropped == {"line: duplicate": 4, "document: no line is left": 1}
    assert left.dropped.examples["line: duplicate"] == ["menu ", "Menu", "READ MORE"]
    with pytest.raises(TaskError, match="lists lines of the column text, not of 'other'"):
        Deduplicated(source, str(path), column="other").fingerprint()
    # A part of the shards loses the same.
    assert [row["text"] for row in left.rows("train", [f"{tmp_path}/1.txt"])] == [
        "Another story.\n"
    ]


def test_an_unknown_normalization_is_refused():
    with pytest.raises(UserError, match=r"--lines=c5: there are c4, ccnet\."):
        LineRule("c5")
