"""What the reliability tests share: a tally of what was survived, for `make reliability`."""

import datetime
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from t5x_like import cli

Tally = Callable[..., None]


@pytest.fixture
def tally(request) -> Tally:
    """Counts what a test has shown, once it has shown it: `tally("kills", times=20)`.

    `make reliability` adds the counts up and prints them. The kinds are those of `table.KINDS`.
    """

    def count(kind: str, times: int = 1, what: str = "") -> None:
        path = os.environ.get("RELIABILITY_TALLY")
        if path:
            record = {"kind": kind, "times": times, "what": what or request.node.name}
            with open(path, "a") as file:  # one short line: appending is atomic
                file.write(json.dumps(record) + "\n")

    return count


@pytest.fixture
def fuzz(tally) -> Callable[..., None]:
    """Gives `check` many inputs: `fuzz(strategy, check, examples=100)`.

    Each must pass or be refused as the user's mistake, in one line and in time; the same inputs
    are drawn every time.
    """

    def run(strategy: Any, check: Callable[[Any], object], examples: int) -> None:
        tried = 0

        @hypothesis.settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=datetime.timedelta(seconds=30),  # of each, on a busy machine
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def every(value: Any) -> None:
            nonlocal tried
            tried += 1
            try:
                check(value)
            except Exception as error:
                if getattr(error, "exit_code", None) != 2:
                    raise
                assert str(error).strip()
                assert "\n" not in str(error).strip(), error

        every()
        tally("fuzzed", times=tried)

    return run


@pytest.fixture
def refused(capfd, tally, tmp_path) -> Callable[..., str]:
    """Runs a command that must be refused: `refused(arguments, "what", "the line", "says")`.

    Exit code 2; one line on standard error, with these words; everything below `tmp_path`, and
    below `watched`, as it was. Returns the line.
    """

    def run(arguments: Iterable[object], *words: str, watched: Path | None = None) -> str:
        directories = [tmp_path, *([watched] if watched else [])]
        before = [_contents(directory) for directory in directories]
        capfd.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        said = capfd.readouterr().err
        assert code == 2, said
        assert said.count("\n") == 1, said
        assert said.startswith("t5x-like: error: "), said
        missing = [word for word in words if word not in said]
        assert not missing, f"{missing} not in: {said}"
        assert [_contents(directory) for directory in directories] == before, said
        tally("bad inputs")
        return said

    return run


def _contents(directory: Path) -> dict[str, bytes | None]:
    """Every file's bytes, and None for every directory, by path."""
    paths = sorted(directory.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}
