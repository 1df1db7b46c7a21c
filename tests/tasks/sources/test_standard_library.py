"""The embedded corpus: its modules, splits and documented functions."""

import itertools

from tasks import sources
from tasks.sources import standard_library


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
