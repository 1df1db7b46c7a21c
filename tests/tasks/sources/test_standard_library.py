"""The embedded corpus: its modules, splits and documented functions."""

import itertools
import json

import pytest

from tasks import sources
from tasks.errors import TaskError
from tasks.sources import standard_library
from tasks.sources.names_in_code import tagged_statements


def test_every_module_is_in_one_split_and_the_splits_do_not_change():
    source = sources.StandardLibraryModules(tests=False)
    paths = {split: {row["path"] for row in source.rows(split)} for split in source.splits}
    assert "json/decoder.py" in set().union(*paths.values())
    assert not any("site-packages" in path or "/test/" in path for path in paths["train"])
    for a, b in itertools.combinations(paths.values(), 2):
        assert not a & b
    total = sum(map(len, paths.values()))
    assert 0.8 < len(paths["train"]) / total < 0.97
    # `printf os.py | sha256sum` begins d9d7, of functools.py e72d, of gzip.py fa66:
    # as fractions 0.851, 0.903 and 0.978.
    assert "os.py" in paths["train"]
    assert "functools.py" in paths["validation"]
    assert "gzip.py" in paths["test"]
    shards = source.shards("train")
    assert {r["path"] for shard in shards for r in source.rows("train", [shard])} == paths["train"]


def test_functions_lose_their_docstring_and_keep_the_rest():
    module = '''
class A:
    @property
    def size(self):
        """Number of things.  Never negative.

        More.
        """
        # A comment.
        return self._size

    def only(self):
        """Nothing else."""

def one_line(): "doc"; return 1

async def run(x,
              y=2):
    "Runs x until it ends"
    await x
'''
    assert list(standard_library.documented_functions(module)) == [
        ("run", "async def run(x,\n              y=2):\n    await x", "Runs x until it ends"),
        (
            "size",
            "@property\ndef size(self):\n    # A comment.\n    return self._size",
            "Number of things.",
        ),
    ]
    assert list(standard_library.documented_functions("def f(:")) == []


def test_the_librarys_functions_parse_without_their_docstrings():
    source = sources.StandardLibraryFunctions(tests=False)
    rows = list(source.rows("test", source.shards("test")[:4]))
    assert len(rows) > 10
    for row in rows:
        assert row["summary"] and "\n" not in row["summary"]
        assert row["name"] in row["source"].partition("(")[0] or row["source"].startswith("@")


def names(module):
    """Of each statement the words that have a tag, with it."""
    return [
        [(word, tag) for word, tag in zip(words, tags, strict=True) if tag != "O"]
        for words, tags in tagged_statements(module)
    ]


def test_a_names_tag_says_what_the_module_has_it_for():
    module = '''
import os.path as p, re
from xml.dom import minidom
class Tree(Base):
    """A docstring alone is no statement of three words."""
    @keep(len)
    def size(self, x=len(y), *rest, key: int = 3, **more):
        s = re.sub(x, lambda z: z + x, f"{x} and {s}") if rest else Tree(more)
x = len(re)
'''
    assert names(module) == [
        [("os", "B-module"), (".", "I-module"), ("path", "I-module"), ("p", "B-module"),
         ("re", "B-module")],
        [("xml", "B-module"), (".", "I-module"), ("dom", "I-module")],
        [("Tree", "B-class")],
        [("len", "B-function")],
        [("size", "B-function"), ("self", "B-parameter"), ("x", "B-parameter"),
         ("len", "B-function"), ("rest", "B-parameter"), ("key", "B-parameter"),
         ("int", "B-class"), ("more", "B-parameter")],
        [("re", "B-module"), ("x", "B-parameter"), ("z", "B-parameter"), ("z", "B-parameter"),
         ("x", "B-parameter"), ("rest", "B-parameter"), ("Tree", "B-class"),
         ("more", "B-parameter")],
        [("len", "B-function"), ("re", "B-module")],
    ]  # fmt: skip
    (words, _), *_ = tagged_statements('s = f"{x + 1} of {y!r:>{z}}" + "a b"\n')
    assert words == ["s", "=", '""', "+", '""']
    assert names("def f(:") == names("é = len(x)\n") == []


@pytest.mark.slow
def test_two_sources_share_the_modules_of_train_and_have_the_same_validation():
    first, rest, whole = (
        sources.StandardLibraryNames(tests=False, begin=begin, end=end)
        for begin, end in ((0.0, 0.3), (0.3, 1.0), (0.0, 1.0))
    )
    shards = whole.shards("train")[:1]

    def words(source):
        return [row["words"] for row in source.rows("train", shards)]

    assert words(first) and words(rest)
    assert sorted(words(first) + words(rest)) == sorted(words(whole))
    row = next(whole.rows("validation"))
    assert next(first.rows("validation")) == row
    assert len(json.loads(row["words"])) == len(json.loads(row["tags"])) >= 3
    with pytest.raises(TaskError, match=r"begin=0\.5 and end=0\.5: shares of the modules"):
        sources.StandardLibraryNames(begin=0.5, end=0.5)
