"""A command line as a configuration: what is documented and packaged gives no warning."""

import re
import shlex
from pathlib import Path

import pytest

from t5x_like import cli, config
from t5x_like.cli import configuration, program
from t5x_like.cli.configuration import configure
from t5x_like.config.gin_files import packaged_gin_configs
from tests.t5x_like.config.test_earlier_configs import IMPORTED, write_data, write_tokenizer

ROOT = Path(__file__).parents[3]
GIN = packaged_gin_configs()
FIXTURES = ROOT / "tests" / "t5x_like" / "config" / "fixtures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Those of models are looked at one by one, and have one command each.
FILES = [path for path in sorted(GIN.rglob("*.gin")) if not path.is_relative_to(GIN / "models")]
# What the commands read before the files given to them.
FIRST = {"cache": "cache", "vocab": "cache", "inspect": "inspect", "compile": "compile"}
NAMES = "|".join(["train", "eval", "infer", "sweep", *FIRST])


@pytest.fixture(autouse=True)
def nothing_left_over(monkeypatch):
    for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"):
        monkeypatch.setenv(name, "")
    with config.isolated():
        yield


def documented(path):
    """The `t5x-like` commands of a page's blocks or of a gin file's head, as lists of words."""
    text = path.read_text()
    if path.suffix == ".gin":
        blocks = [re.sub(r"^# ?", "", text.partition("\nfrom __gin__")[0], flags=re.M)]
    else:
        blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.M | re.S)
    # Flags that several commands share stand in a variable, of any block before.
    blocks = [re.sub(r"\\\n\s*", "", block).replace(" ... ", " ") for block in blocks]
    variables = dict(re.findall(r'^ *([A-Z]+)="([^"]*)"$', "\n".join(blocks), re.M))

    def whole_of(text):
        return re.sub(r"\$([A-Z]+)\b", lambda m: variables.get(m[1], m[0]), text)

    found = []
    for block in blocks:
        whole = whole_of(whole_of(block))  # a variable may be made of others
        word = r"""'[^'\n]*'|"[^"\n]*"|[^|;>\n'"]"""  # a quoted | ends no command
        lines = re.findall(rf"(?:^|[ /])t5x-like ((?:{NAMES}) (?:{word})+)", whole, re.M)
        found += [shlex.split(line, comments=True) for line in lines]
    return found


@pytest.mark.parametrize(
    "path", [*PAGES, *FILES], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_documented_command_has_no_name_that_nothing_reads(path):
    for words in documented(path):
        # Records of runs that are not there, and names for any.
        files = [word for word in words if word.startswith("--gin_file=")]
        if any(re.search(r"[A-Z]{4}", word) for word in files):
            continue
        words = [word for word in words if not re.search(r"gin_file=.*/(config|model).gin$", word)]
        options = program._parse_arguments(words)
        first = [f"runs/{FIRST[name]}.gin" for name in words[:1] if name in FIRST]
        options.gin_file += ["runs/tools.gin"] * getattr(options, "tools", False)
        configure(options, *first)
        programs, macros = configuration._PROGRAMS.values(), configuration._read_here()
        unread = config.unread(programs, macros)
        assert [one.message for one in unread if one.place.line is not None] == []


def test_the_documented_commands_are_found():
    assert sum(len(documented(path)) for path in [*PAGES, *FILES]) > 100


def test_every_packaged_macro_is_referred_to_or_known():
    changed = {  # a file that it changes is before it
        "sweeps/finetune.gin": ["runs/pretrain.gin"],
        "sweeps/variants/first_tokens.gin": ["runs/pretrain.gin"],
        "sweeps/variants/multi_task.gin": ["runs/pretrain.gin"],
        "tuning/prompt.gin": ["runs/pretrain.gin"],
    }
    for path in sorted(GIN.rglob("*.gin")):
        config.parse([*changed.get(path.relative_to(GIN).as_posix(), ()), str(path)])
        assert [one.message for one in config.unread([], [], whole=False)] == []


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.gin")), ids=lambda path: path.stem)
def test_an_earlier_record_is_read_without_a_warning(path, tmp_path, capsys, monkeypatch):
    write_data(tmp_path)
    if path.stem == IMPORTED:
        (tmp_path / "run").mkdir()
        write_tokenizer(tmp_path / "run")
        monkeypatch.chdir(tmp_path)
    (tmp_path / "config.gin").write_text(path.read_text().replace("DIRECTORY", str(tmp_path)))
    # What was imported has not been trained.
    for name in ("eval", "infer", *(["train"] if path.stem != IMPORTED else [])):
        more = [] if name == "train" else [f"--gin_file=runs/{name}.gin"]
        assert cli.main([name, f"--gin_file={tmp_path}/config.gin", *more, "--dry_run"]) == 0
    assert capsys.readouterr().err == ""


def test_a_record_may_be_followed_by_another_optimizer(tmp_path, capsys):
    (tmp_path / "config.gin").write_text((FIXTURES / "span_corruption.gin").read_text())
    files = [f"{tmp_path}/config.gin", "optimizers/adamw.gin", "runs/finetune.gin"]
    assert cli.main(["train", *[f"--gin_file={file}" for file in files], "--dry_run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("t5x-like: error: INITIAL_CHECKPOINT_PATH") and said.count("\n") == 1
