"""What `--gin.NAME=TEXT` binds: a literal, a reference, or text, and never more than NAME."""

import shlex

import pytest

from t5x_like import config
from t5x_like.config.flag_values import flag_value
from t5x_like.errors import UserError

HEAD = "from __gin__ import dynamic_registration\nfrom t5x_like import schedules\n"


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("-20", -20),
        ("+20", 20),
        ("1e-3", 0.001),
        ("None", None),
        ("True", True),
        ("'quoted'", "quoted"),
        ("{'inputs': 64}", {"inputs": 64}),
        ("[1,\n 2]", [1, 2]),
        ("1, 2", (1, 2)),
    ],
)
def test_a_python_literal_is_its_value(text, value):
    found = flag_value("X", text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "runs/demo",
        "True/demo",
        "{de}",
        "{premise} {hypothesis}",
        "[1, 2",
        "{'a': 1} and more",
        "it's",
        "",
        "...",
        "# heading",
        "1 # and more",
        "'a' # and more",
        "{'a': 1}  # and more",
        "1e999",  # infinity, which config.gin cannot hold
        "{1, 2}",
        "a\udcffb",  # a byte that is not UTF-8, as Python gives it
    ],
)
def test_what_is_no_literal_is_text_as_it_stands(text):
    assert flag_value("X", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "1\nBATCH_SIZE = 7",
        "'a'\nBATCH_SIZE = 7",
        "[1]\n[2]",
        "a\nimport antigravity",
        "{q}\ninclude 'runs/eval.gin'",
        "''\n\nSEED = 1",
    ],
)
def test_lines_in_a_value_bind_nothing_else(text, tmp_path):
    config.parse([config.GinText("a.gin", HEAD)], [("SEPARATOR", text)])
    assert config.macro("SEPARATOR") == text
    written = tmp_path / "config.gin"
    written.write_text(config.full_text(sources=True))
    config.parse([str(written)])
    assert config.macro("SEPARATOR") == text
    assert not any(map(config.has_macro, ("BATCH_SIZE", "SEED", "train/SEED")))
    assert config.import_lines() == ["from t5x_like import schedules"]


@pytest.mark.parametrize(
    "text", ["@schedules.RSqrt()\nimport antigravity", "%A\nB = 1", "@", "@a b"]
)
def test_what_only_begins_like_a_reference_is_refused_with_the_quoting_that_works(text):
    with pytest.raises(UserError, match=r"begins like .* but is none; as text it is --gin.X=") as e:
        flag_value("X", text)
    assert "\n" not in str(e.value)
    assert flag_value("X", _suggested(e)) == text


def test_a_module_import_imports_one_module():
    with pytest.raises(UserError, match=r"SEED = 7: that is not a module's name"):
        config.parse([], module_imports=["os\nSEED = 7"])
    assert not config.has_macro("SEED")


def test_the_name_of_a_file_adds_no_line_to_the_configuration_that_is_shown(tmp_path):
    path = tmp_path / "a\nSEED = 7\n.gin"
    path.write_text(HEAD + "BATCH_SIZE = 1\n")
    config.parse([str(path)])
    assert "BATCH_SIZE = 1  # " in config.full_text(sources=True)
    assert "\nSEED" not in config.full_text(sources=True)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (r"\n", "\n"),
        (r"\n\n", "\n\n"),
        (r"question: {q}\nanswer:", "question: {q}\nanswer:"),
        (r"{a}\t{b}", "{a}\t{b}"),
        (r"C:\\new", "C:\\new"),
        (r"'\n'", "\n"),  # as Python has it
        (r"'\\d+'", "\\d+"),
    ],
)
def test_escapes_in_text_are_those_of_a_gin_file(typed, text):
    assert flag_value("X", typed) == text


@pytest.mark.parametrize("typed", [r"\d+", r"C:\files", "ends\\", r"it's \d", r"\u00e9"])
def test_another_backslash_is_refused_with_the_quoting_that_works(typed):
    with pytest.raises(UserError, match=r"is no escape: text without quotes has \\n") as e:
        flag_value("X", typed)
    assert flag_value("X", _suggested(e)) == typed


def _suggested(error):
    (flag,) = shlex.split(str(error.value).rpartition("it is ")[2])
    return flag.removeprefix("--gin.X=")


def test_references_and_macros_are_gins_also_in_containers():
    text = config.GinText("a.gin", HEAD + "A = 1\n")
    config.parse([text], [("X", "[@schedules.RSqrt(), %A]"), ("Y", "%A"), ("A", "3")])
    assert config.macro("Y") == 3
    assert "X = [@schedules.RSqrt(), %A]" in config.full_text()


@pytest.mark.parametrize("depth", [51, 95, 150, 190, 1_000, 100_000])
def test_brackets_nested_too_deeply_are_refused(depth, tmp_path):
    text = "[" * depth + "]" * depth
    with pytest.raises(UserError, match=r"--gin.X=\[.*: brackets are nested more than 50"):
        config.parse([], [("X", text)])
    (tmp_path / "deep.gin").write_text(f"{HEAD}X = 1\nY = {text}\n")
    with pytest.raises(UserError, match=r"deep.gin(:4)?: (brackets are nested more than 50)"):
        config.parse([str(tmp_path / "deep.gin")])
    config.parse([], [("X", "[" * 50 + "]" * 50)])


def test_what_a_configuration_file_could_not_hold_is_refused():
    with pytest.raises(UserError, match=r"a.gin:1: .*inf is not finite"):
        config.parse([config.GinText("a.gin", "X = [1.0, -1e999]\n")])


HOSTILE = [
    "'", '"', "\\", "\n", "\r", "\x0c", "\x00", "\x85", "\u2028", "\udcff", "€", "%A", "@f()",
    "#", "'''", "\\'", "{q}\\n", "a " * 100, "it's \"both\" " * 20 + "\n\\",
]  # fmt: skip


def test_every_text_is_the_same_after_it_was_written_and_read(tmp_path):
    values = [*HOSTILE, {text: [text, (text,)] for text in HOSTILE}, "\n".join(HOSTILE)]
    bindings = [(f"X{i}", repr(value)) for i, value in enumerate(values)]
    config.parse([config.GinText("a.gin", HEAD)], bindings)
    (tmp_path / "config.gin").write_text(config.full_text(sources=True), encoding="utf-8")
    config.parse([str(tmp_path / "config.gin")])
    assert [config.macro(f"X{i}") for i in range(len(values))] == values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("@f()", "@f()"),
        ("%NAME", "%NAME"),
        ("@f()\nSEED = 1", r"'@f()\nSEED = 1'"),
        ("20", "'20'"),
        ("a\nb", r"'a\nb'"),
        (20, "20"),
    ],
)
def test_a_value_is_written_as_one_value(value, text):
    assert config.written_value(value) == text
