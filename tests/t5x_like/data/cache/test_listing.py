"""Which caches there are, and removing them."""

import os
import time

import pytest

from t5x_like import cli, data
from t5x_like.data.cache import layout, listing, writer
from t5x_like.errors import UserError


@pytest.fixture
def two(kit, tmp_path, pairs):
    """Two caches of one task, and one of another whose name has a colon."""
    written = {}
    for name, digit in (("pairs", "1"), ("pairs", "2"), ("group:pairs", "3")):
        *above, last = name.split(":")
        folder = ":".join([*above, f"{last}-{digit * 12}"])
        task = kit.task(name, print_of_source=digit * 64, cache_name=folder)
        written[digit] = kit.write(task, tmp_path, pairs)
    return tmp_path, written


def test_caches_are_listed_with_size_and_last_use(kit, two):
    directory, written = two
    long_ago = time.time() - 100 * 86_400
    os.utime(written["1"] / "COMPLETED", (long_ago, long_ago))
    found = listing.caches(directory)
    names = ["group/pairs-333333333333", "pairs-111111111111", "pairs-222222222222"]
    assert [one.name for one in found] == names
    assert found[1].splits == ("train",) and found[1].finished
    assert found[1].size == sum(path.stat().st_size for path in written["1"].iterdir())
    assert found[1].unused_days == pytest.approx(100, abs=0.1)
    # Opening it counts as use.
    task = kit.task("pairs", print_of_source="1" * 64)
    lengths = {"inputs": 8, "targets": 8}
    config = data.DatasetConfig(task, lengths, directory, batch_size=8, prefetch=0)
    with data.open_dataset(config, batch_format="encoder_decoder"):
        assert listing.caches(directory)[1].unused_days < 1


def test_what_is_read_or_written_is_kept(kit, two):
    directory, written = two
    task = kit.task("pairs", print_of_source="1" * 64)
    config = data.DatasetConfig(task, {"inputs": 8, "targets": 8}, directory, batch_size=8)
    split = data.open_evaluation(config, batch_format="encoder_decoder")
    first, second = listing.caches(directory)[1:]
    assert listing.prune(first) == "it is being read by another process"
    with writer.locked(second.folder):
        assert listing.prune(second) == "it is being written by another process"
    assert all(folder.is_dir() for folder in written.values())
    assert len(list(split)) == 30


def test_pruning_removes_what_caching_wrote_and_nothing_else(two):
    directory, written = two
    (written["1"] / "notes.txt").write_text("mine")
    layout.link_for_seqio(written["2"])
    for one in listing.chosen(listing.caches(directory), ["pairs-111111111111"], None):
        assert listing.prune(one) is None
    assert [path.name for path in written["1"].iterdir()] == ["notes.txt"]
    assert (directory / "pairs").resolve() == written["2"].resolve()
    (last,) = listing.chosen(listing.caches(directory), ["pairs-222222222222"], None)
    assert listing.prune(last) is None
    assert not written["2"].exists() and not (directory / "pairs").is_symlink()
    assert written["3"].is_dir()


def test_what_to_remove_is_said_by_name_or_by_days(two):
    found = listing.caches(two[0])
    with pytest.raises(UserError, match=r"needs the names of caches .* or --unused_days=N"):
        listing.chosen(found, [], None)
    with pytest.raises(
        UserError, match=r"no cache 'pairs' here: there are group/pairs-3+, pairs-1"
    ):
        listing.chosen(found, ["pairs"], None)
    assert listing.chosen(found, [], 1.0) == []
    assert len(listing.chosen(found, [], 0.0)) == 3


def test_the_command_lists_and_removes(two, capsys):
    directory, written = two
    place = f"--gin.CACHE_DIR={directory}"
    assert cli.main(["cache", "--list", place]) == 0
    assert "3 caches in" in capsys.readouterr().out
    assert cli.main(["cache", "--prune", "pairs-111111111111", place]) == 0
    assert "pairs-111111111111 removed" in capsys.readouterr().out
    assert not written["1"].exists() and written["2"].exists()
    assert cli.main(["cache", "--prune", place]) == 2
