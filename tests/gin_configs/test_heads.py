"""What a packaged gin file says at its head is so: its command, and the macros that it requires."""

import itertools
import re

import pytest

from t5x_like import config
from t5x_like.config import gin_internals, provenance
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.config.macro_help import PURPOSES
from t5x_like.config.references import bindings_of

ROOT = packaged_gin_configs()
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.gin"))

# Read by a command itself, or included by others: their heads show a command that does so.
NOT_GIVEN = {
    "hardware/tpu_flags.gin",
    "runs/cache.gin",
    "runs/compile.gin",
    "runs/generation/defaults.gin",
    "runs/inspect.gin",
    "runs/ngram.gin",
    "runs/tools.gin",
    "suites/defaults.gin",
    "sweeps/ablation_cpu.gin",
    "sweeps/byte_prefixes.gin",
    "sweeps/byte_spans.gin",
    "sweeps/bytes.gin",
    "sweeps/cell.gin",
    "sweeps/cpu.gin",
    "sweeps/defaults.gin",
    "sweeps/finetune.gin",
    "sweeps/measure.gin",
    "sweeps/measure_docstring.gin",
    "sweeps/noise_scale.gin",
    "sweeps/t5_study.gin",
    "sweeps/variants/first_tokens.gin",
    "sweeps/variants/multi_task.gin",
    "sweeps/variants/t5_decoder.gin",
    "tasks/benchmark.gin",
    "tasks/classification.gin",
    "tasks/comparisons.gin",
    "tasks/conversations.gin",
    "tasks/labelled.gin",
    "tasks/multiple_choice.gin",
    "tasks/options.gin",
    "tasks/regression.gin",
    "tasks/spans.gin",
    "tasks/tagging.gin",
    "tasks/text_to_text.gin",
    "tasks/unsupervised.gin",
}
# What is read in these folders from the outside, beside what the file itself binds.
ENTRIES = {
    "sweeps": ("t5x_like.scaling.sweeps.runner.run_sweep", None),
    "tasks": ("gin.macro", "TASK"),
    "cache": ("gin.macro", "TASK"),
}


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


def head(name):
    """The comment that a file opens with, without its marks."""
    lines = []
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)


def paragraph(text, word):
    """What follows `Required` or `Optional`, to the next such word, command or empty line."""
    found = re.search(rf"^{word}\b(.*?)(?=^Optional|^Required|^t5x-like|^$|\Z)", text, re.M | re.S)
    return found[1] if found else ""


def macros_in(text):
    """The names of macros, but not of classes' parameters, which have a dot before or after."""
    return {name for name in re.findall(r"(?<![\w.'])[A-Z][A-Z_]+\b(?!\.\w|')", text)} & KNOWN


def macros_anywhere():
    """Everything that is bound or used as a macro in a packaged file."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in FILES]
    used = {name for text in texts for name in re.findall(r"%([A-Z_]+)", text)}
    return used | {name for text in texts for name in re.findall(r"^([A-Z_]+) =", text, re.M)}


KNOWN = macros_anywhere()
# Words in capitals that are no macros, where heads say what is required and what is optional.
NO_MACROS = {
    "BART", "BERT", "BLEU", "COALS", "COUNT", "GB", "GPT", "JSON", "JSONL", "LSTM", "NAME", "SEP",
    "T5", "TFDS", "WORD",
}  # fmt: skip


def macros_read():
    """What stands for a value in a packaged file, comments left out."""
    lines = [line for name in FILES for line in (ROOT / name).read_text("utf-8").splitlines()]
    return set(re.findall(r"%([A-Z][A-Z_0-9]*)", "\n".join(x.partition("#")[0] for x in lines)))


READ = macros_read()


def entries(name):
    """(selector, scopes) of what a file binds itself, and of what reads it."""
    for (scope, selector), values in gin_internals.CONFIG.items():
        for parameter in values:
            place = provenance.places((scope, selector), parameter)[-1]
            if place.source == name or place.rank[0]:
                yield selector, tuple(filter(None, scope.split("/")))
    for key in (name.split("/")[0], name.rpartition("/")[2].removesuffix(".gin")):
        selector, scope = ENTRIES.get(key, (None, None))
        if (scope or "", selector) in gin_internals.CONFIG:
            yield selector, (scope,) if scope else ()


def unbound(name):
    """The macros that are needed by what a file binds, and that nothing binds."""
    config.parse([name])
    missing, seen = set(), set()
    todo = list(entries(name))
    while todo:
        selector, scopes = todo.pop()
        if (selector, scopes) in seen:
            continue
        seen.add((selector, scopes))
        if selector == "gin.macro" and ("/".join(scopes), selector) not in gin_internals.CONFIG:
            missing.add("/".join(scopes))
        for value in bindings_of(gin_internals.REGISTRY[selector], scopes).values():
            for reference in gin_internals.iterate_references(value):
                inner = tuple(reference.scopes) or scopes
                todo.append((reference.configurable.selector, inner))
    return missing


@pytest.mark.parametrize("name", FILES)
def test_a_file_opens_with_what_it_is_and_the_command_that_uses_it(name):
    text = head(name)
    assert re.match(r"[A-Z0-9`][^\n]{15,}", text)
    commands = re.findall(r"^t5x-like (?:.*\\\n)*.*$", text, re.M)
    assert commands
    given = re.findall(r"--gin_file=([\w./]+\.gin)", "\n".join(commands))
    given = [file for file in given if not file.endswith("/config.gin")]  # a run's
    assert set(given) <= set(FILES)
    assert (name in given) != (name in NOT_GIVEN)
    if name in NOT_GIVEN and not name.startswith("runs/"):
        config.parse(given)
        places = [place for found in provenance._PLACES.values() for place in found]
        named = []
        if config.has_macro("SWEEP"):  # files that its runs read
            sweep = config.macro("SWEEP")
            staged = (stage.gin_files for stage in sweep.stages)
            variants = (variant.gin_files for variant in sweep.variants)
            named = [*sweep.base, *config.macro("SUITES"), *itertools.chain(*staged, *variants)]
        reads = {place.source for place in places} | set(named)
        assert name in reads or name == "sweeps/cell.gin"


@pytest.mark.parametrize("name", FILES)
def test_the_required_macros_are_those_that_a_file_uses_and_does_not_bind(name):
    required = paragraph(head(name), "Required")
    assert macros_in(required) == unbound(name)


@pytest.mark.parametrize("name", FILES)
def test_the_optional_macros_have_a_default(name):
    config.parse([name])
    bound = {scope for scope, selector in gin_internals.CONFIG if selector == "gin.macro"}
    assert macros_in(paragraph(head(name), "Optional")) <= bound


@pytest.mark.parametrize("name", FILES)
def test_a_head_names_no_macro_that_nothing_reads(name):
    told = "".join(paragraph(head(name), word) for word in ("Required", "Optional"))
    named = set(re.findall(r"(?<![\w.'/])[A-Z][A-Z_0-9]+\b(?!\.\w|')", told))
    assert named - NO_MACROS <= READ


def test_every_macro_that_a_file_requires_has_a_purpose_to_be_told():
    required = {macro for name in FILES for macro in macros_in(paragraph(head(name), "Required"))}
    assert len(required) > 15
    assert required <= set(PURPOSES)
