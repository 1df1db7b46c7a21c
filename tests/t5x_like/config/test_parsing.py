"""How gin files become a checked configuration. The configurables are the standard library's."""

import os
import statistics

import pytest

from t5x_like import config
from t5x_like.config.gin_files import find_gin_file, packaged_gin_configs
from t5x_like.errors import UserError

DEFAULTS = "runs/defaults.gin"
HEAD = (
    "from __gin__ import dynamic_registration\nimport statistics\nfrom t5x_like import schedules\n"
)


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


@pytest.fixture
def gin_file(tmp_path):
    def write(text, name="a.gin"):
        path = tmp_path / name
        path.write_text(HEAD + text)
        return str(path)

    return write


def test_a_file_is_found_in_the_working_directory_then_the_search_paths_then_the_package(
    tmp_path, monkeypatch
):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    packaged = packaged_gin_configs() / "runs" / "pretrain.gin"
    assert find_gin_file("runs/pretrain.gin") == packaged
    (tmp_path / "elsewhere" / "runs").mkdir(parents=True)
    other = tmp_path / "elsewhere" / "runs" / "pretrain.gin"
    other.write_text(HEAD)
    assert find_gin_file("runs/pretrain.gin", [str(tmp_path / "elsewhere")]) == other
    (tmp_path / "runs" / "pretrain.gin").write_text(HEAD)
    assert str(find_gin_file("runs/pretrain.gin")) == "runs/pretrain.gin"


def test_a_missing_file_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"'runs/pretrian.gin' not found .* mean runs/pretrain.gin"):
        config.parse(["runs/pretrian.gin"])


def test_the_command_line_wins_over_files_and_later_files_over_earlier_ones(gin_file):
    first = gin_file("SEED = 1\nBATCH_SIZE = 1\n", "first.gin")
    second = gin_file("SEED = 2\nBATCH_SIZE = 2\n", "second.gin")
    config.parse([first, second], [("SEED", "3")])
    assert (config.macro("SEED"), config.macro("BATCH_SIZE")) == (3, 2)


def test_an_include_is_read_where_it_stands(gin_file):
    inner = gin_file("SEED = 1\nBATCH_SIZE = 1\n", "inner.gin")
    outer = gin_file(f"SEED = 2\ninclude '{inner}'\nBATCH_SIZE = 2\n", "outer.gin")
    config.parse([outer])
    assert (config.macro("SEED"), config.macro("BATCH_SIZE")) == (1, 2)


def test_a_file_of_defaults_yields_to_files_before_and_after_it(gin_file, tmp_path):
    defaults = gin_file("SEED = 1\nBATCH_SIZE = 1\nTRAIN_STEPS = 1\n", "defaults.gin")
    before = gin_file("SEED = 2\n", "before.gin")
    run = gin_file(f"include '{defaults}'\n", "run.gin")
    after = gin_file("BATCH_SIZE = 3\n", "after.gin")
    config.parse([before, run, after])
    assert [config.macro(name) for name in ("SEED", "BATCH_SIZE", "TRAIN_STEPS")] == [2, 3, 1]


def test_what_a_file_of_defaults_includes_are_defaults_too(gin_file):
    inner = gin_file("SEED = 1\n", "inner.gin")
    defaults = gin_file(f"include '{inner}'\n", "defaults.gin")
    config.parse([gin_file("SEED = 2\n", "first.gin"), defaults])
    assert config.macro("SEED") == 2


def test_files_that_include_each_other_are_refused(gin_file, tmp_path):
    other = tmp_path / "b.gin"
    first = gin_file(f"include '{other}'\n")
    gin_file(f"include '{first}'\n", "b.gin")
    with pytest.raises(UserError, match=r"in a circle: \S*a.gin includes \S*b.gin includes \S*a.g"):
        config.parse([first])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SEED = 1", "SEED = 2"),
        ("statistics.quantiles.n = 4", "statistics.quantiles:\n  n = 5"),
        ("A = %SEED", "A = %BATCH_SIZE"),
        ("A = @x/schedules.RSqrt()", "A = @y/schedules.RSqrt()"),
    ],
)
def test_a_file_that_binds_a_name_to_two_values_is_refused(gin_file, first, second):
    included = gin_file(f"{first}\n{second}\n")
    for path in (included, gin_file(f"include '{included}'\n", "outer.gin")):
        with pytest.raises(UserError, match=r"a.gin:\d+: .* in line 4 of the same file: keep one"):
            config.parse([path])
    config.parse([gin_file(f"{first}\n{first}\n")])


def test_a_run_file_may_stand_before_or_after_what_it_has_defaults_for(gin_file):
    adamw = "optimizers/adamw.gin"
    for files in (["runs/pretrain.gin", adamw], [adamw, "runs/pretrain.gin"]):
        config.parse(files, [("TRAIN_STEPS", "2000"), ("LEARNING_RATE", "1e-3")])
        assert config.macro("OPTIMIZER").name == "AdamW"


def test_a_binding_may_name_what_no_file_has_bound_yet(gin_file):
    data = ("statistics.quantiles.data", "[1, 2, 3]")
    config.parse(
        [DEFAULTS, gin_file("")],
        [data, ("statistics.quantiles.n", "2"), ("R", "@schedules.RSqrt()")],
    )
    assert config.configured(statistics.quantiles)() == [2.0]
    assert config.macro("R").peak == 0.01
    # gin's shorter name will do as well, once the function has been named.
    config.parse([gin_file("")], [data, ("quantiles.n", "4")])
    assert config.configured(statistics.quantiles)() == [1.0, 2.0, 3.0]


def test_the_operative_configuration_reruns_as_it_is(gin_file, tmp_path):
    warmup = ("WARMUP_STEPS", "7")
    config.parse([gin_file("LEARNING_RATE = 0.5\nMINE = %OPTIMIZER\n"), DEFAULTS], [warmup])
    first = config.macro("MINE").schedule
    text = config.operative_text()
    assert "OPTIMIZER/" not in text
    (tmp_path / "operative.gin").write_text(text)
    config.parse([str(tmp_path / "operative.gin")])
    assert config.macro("OPTIMIZER").schedule == first
    config.parse([str(tmp_path / "operative.gin")], [("schedules.RSqrt.warmup_steps", "9")])
    assert config.macro("OPTIMIZER").schedule.warmup_steps == 9


def test_a_required_macro_is_named_with_its_purpose_before_anything_runs():
    from t5x_like import train

    config.parse(["runs/pretrain.gin"])
    with pytest.raises(UserError, match=r"MODEL \(the model, bound by a file under models/\)"):
        config.configured(train.train)


def test_an_unbound_macro_behind_another_is_found(gin_file):
    config.parse([gin_file("OPTIMIZER = %MINE\nMINE = [%YOURS]\n")])
    with pytest.raises(UserError, match=r"YOURS is not set"):
        config.macro("OPTIMIZER")


def test_an_argument_without_default_must_be_bound(gin_file):
    steps = ("TRAIN_STEPS", "20000")
    config.parse([DEFAULTS, gin_file("S = @schedules.Cosine()\n")], [steps])
    config.macro("S")
    config.parse([DEFAULTS, gin_file("S = @mine/schedules.WarmupStableDecay()\n")], [steps])
    with pytest.raises(UserError, match=r"DECAY_STEPS .* is not set, needed by mine/"):
        config.macro("S")


def test_a_program_that_no_file_configures_asks_for_a_run():
    from t5x_like import evaluate

    config.parse([])
    with pytest.raises(
        UserError, match=r"add a file that does, such as --gin_file=runs/pretrain.gin"
    ):
        config.configured(evaluate.evaluate)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("X = [1, 2", r"a.gin:\d+: gin syntax error"),
        ("statistics.quantiles.n 4", r"a.gin:4: gin syntax error"),
        (
            "statistics.quantiles.methud = 4",
            r"a.gin:4: 'statistics.quantiles' has no .* mean method",
        ),
        (
            "statistics.quantils.n = 4",
            r"a.gin:4: nothing is called 'statistics.quantils'. .* quantiles",
        ),
        ("statistic.quantiles.n = 4", r"a.gin:4: 'statistic' is not imported .* mean statistics"),
        ("X = @schedules.Cosinus()", r"a.gin:4: nothing .* 'schedules.Cosinus'. .* mean Cosine"),
        ("schedules.peak = 4", r"a.gin:4: 'schedules' is a module: .* such as 'schedules."),
        ("schedules:\n  peak = 4", r"a.gin:\d: 'schedules' is a module"),
        ("X = @schedules()", r"a.gin:4: 'schedules' is a module"),
        ("import no_such_module", r"a.gin:4: import failed: No module named 'no_such_module'"),
        (
            "import raises_at_import",
            r"a.gin:4: import failed: module 'raises_at_import' raises KeyError",
        ),
        ("include 'runs/pretrian.gin'", r"a.gin:4: .* not found .* mean runs/pretrain.gin"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_its_place(
    gin_file, line, message, tmp_path, monkeypatch
):
    (tmp_path / "raises_at_import.py").write_text("{}['a']")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        config.parse([gin_file(line + "\n")])
    assert "\n" not in str(caught.value)


def test_a_mistake_in_an_included_file_has_that_files_place(gin_file):
    inner = gin_file("\nX = @schedules.Cosinus()\n", "inner.gin")
    with pytest.raises(UserError, match=r"inner.gin:5: nothing is called 'schedules.Cosinus'"):
        config.parse([gin_file(f"include '{inner}'\n")])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "statistics.quantiles.methud",
            "4",
            r"--gin.statistics.quantiles.methud=4: .* mean method",
        ),
        ("nothing.here", "4", "--gin.nothing.here=4: nothing configurable is called 'nothing'"),
        ("statistics.n", "4", "--gin.statistics.n=4: 'statistics' is a module: name what"),
        ("R", "@schedules()", "'schedules' is a module"),
        ("a b", "1", "'a b' is not a macro"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_flag(gin_file, name, value, message):
    with pytest.raises(UserError, match=message) as caught:
        config.parse([gin_file("")], [(name, value)])
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "b.gin").write_bytes(b"SEED = \xff\n")
    with pytest.raises(UserError, match=r"b.gin: not UTF-8"):
        config.parse([str(tmp_path / "b.gin")])


def test_isolation_restores_what_was_bound(gin_file):
    config.parse([gin_file("SEED = 5\n")])
    with config.isolated():
        config.parse([gin_file("SEED = 6\n")])
        assert config.macro("SEED") == 6
    assert config.macro("SEED") == 5


@pytest.mark.parametrize("scheme", ["http", "https", "file", "s3", "az"])
def test_a_file_of_another_service_is_refused(scheme):
    with pytest.raises(UserError, match="is neither a local path nor one of `gs://`: copy it here"):
        config.parse([f"{scheme}://host/a.gin"])


@pytest.mark.parametrize("kind", ["directory", "pipe", "long"])
def test_what_is_no_file_is_refused(kind, tmp_path):
    path = tmp_path / ("a" * 300 if kind == "long" else "a.gin")
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    said = "cannot be read: File name too long" if kind == "long" else "is a directory or a device"
    with pytest.raises(UserError, match=said):
        config.parse([str(path)])


@pytest.mark.parametrize("path", sorted(packaged_gin_configs().rglob("*.gin")), ids=str)
def test_every_packaged_file_parses_and_opens_with_a_comment(path):
    assert path.read_text().startswith("# ")
    config.parse([str(path)])
