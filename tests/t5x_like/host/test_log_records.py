"""One listener at a time hears a logger, and hears it once."""

import logging
import sys

import pytest

from t5x_like import cli
from t5x_like.host import log_records


@pytest.fixture
def printing_root():
    """As other libraries leave the root: with a handler that prints level and module."""
    root, handler = logging.getLogger(), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    root.addHandler(handler)
    yield
    root.removeHandler(handler)


def test_the_innermost_listener_alone_is_told_and_afterwards_all_is_as_before():
    logger = logging.getLogger("models.somewhere")
    outer, inner = [], []
    with log_records.told("models", outer.append):
        with log_records.told("models", inner.append, logging.INFO):
            logger.info("chosen")
            logger.debug("not this")
        logger.info("nor this")
        logger.warning("beware of %s", "this")
    package = logging.getLogger("models")
    assert (inner, outer) == (["chosen"], ["beware of this"])
    assert (package.handlers, package.propagate, package.level) == ([], True, logging.NOTSET)


def test_a_command_prints_a_warning_as_it_is_and_once(tmp_path, capsys, printing_root):
    (tmp_path / "book.txt").write_bytes(b"many hands\nlight w\xffrk\n" * 200)
    code = cli.main(
        [
            "vocab",
            "--gin_file=tasks/text_files.gin",
            f"--gin.TRAIN_FILES={tmp_path}/book.txt",
            "--gin.SEPARATOR='\\n'",
            "--gin.sources.TextFiles.undecodable='replace'",
            "--vocab_size=30",
            "--model_type=wordpiece",
            f"--out={tmp_path}/words/tokenizer.json",
        ]
    )
    error = capsys.readouterr().err
    assert code == 0 and error.count("book.txt") == 1 and "WARNING" not in error
