"""What the documentation names exists: files, links, commands, gin bindings, Python names."""

import ast
import contextlib
import functools
import glob
import importlib
import inspect
import io
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from t5x_like import cli
from t5x_like.cli.arguments import T5X_FLAGS
from t5x_like.config.macro_help import T5X_OBJECTS
from t5x_like.data import formats

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GIN = ROOT / "gin_configs"
PACKAGES = ("t5x_like", "models", "tasks")
TOP_LEVEL = (*PACKAGES, "tests", "docs", "benchmarks", "notebooks", "gin_configs", ".github", ".ci")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

# Gin files that a program writes, so that they are not in the repository.
WRITTEN = ("config.gin", "cell.gin", "model.gin", "mine.gin")
# Names of other projects.
ELSEWHERE = {"PrefixLMFeatureConverter", "acc_mutual_info"}
OTHER_ROOTS = {"jax", "jnp", "lax", "np", "numpy", "seqio", "nn", "tf", "torch", "transformers"}
OTHER_ROOTS |= {"etils", "functools", "lm_eval", "self", "t5x"}
# Of pytest, gcloud, xpk and Slurm, on the pages that say how to use them.
OTHER_FLAGS = {"--durations", "--worker", "--on-demand", "--reservation", "--signal"}
OTHER_FLAGS |= {f"--{flag}" for flag in T5X_FLAGS}
# What the examples call their objects.
VARIABLES = {"run": "Run", "model": "LanguageModel", "task": "Task"}
EXTENSIONS = {"gin", "py", "md", "json", "jsonl", "txt", "html", "bin", "model", "toml", "yaml"}


# -- Reading a page -----------------------------------------------------------------------------


@functools.cache
def parts(page):
    """(blocks, spans): fenced code as (language, text), and code within lines."""
    text = page.read_text()
    blocks = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.M | re.S)
    prose = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.M | re.S)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [(language, body) for _, language, body in blocks], spans


def commands(page):
    """Each `t5x-like` command of a page, as a list of words."""
    blocks, spans = parts(page)
    texts = [body for language, body in blocks if language in ("", "bash", "sh")]
    lines = [line for text in texts for line in re.sub(r"\\\n\s*", "", text).splitlines()]
    found = []
    for line in [*lines, *spans]:
        for rest in re.findall(r"(?:^|[ /])t5x-like ([^|;>]+)", line):
            words = re.split(r"\s#|\s\.\.\.| and ", rest)[0].split()
            if words and words[0][0].islower():
                found.append(words)
    return found


def bindings(page):
    """Each `--gin.NAME=VALUE` of a page."""
    blocks, spans = parts(page)
    text = "\n".join([body for _, body in blocks] + spans)
    return re.findall(r"--gin\.([\w./]+)=('[^']*'|\"[^\"]*\"|\S*)", text)


def expanded(pattern):
    """The names that braces stand for: `{a,b}.gin`."""
    pieces = re.split(r"\{([^}]*)\}", pattern)
    options = [piece.split(",") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return ["".join(choice) for choice in itertools.product(*options)]


def exists(path, base):
    """Whether a file, or any file of a pattern, is there; NAME in capitals stands for any."""
    pattern = re.sub(r"(?<![A-Za-z])[A-Z]{3,}(?![A-Za-z]|\.md)", "*", path)
    return all(glob.glob(str(base / name.rstrip("/"))) for name in expanded(pattern))


# -- Files --------------------------------------------------------------------------------------


@pages
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", file.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def names_a_missing_file(word):
    """Whether a word is a path of the repository, or of a gin file, that leads nowhere."""
    folder, slash, _ = word.partition("/")
    if word.endswith(".gin"):
        name = word.removeprefix("gin_configs/")
        return bool(slash) and not name.endswith(WRITTEN) and not exists(name, GIN)
    if not ((slash and word.endswith(".py")) or (slash and folder in TOP_LEVEL)):
        return False
    # Pages about models write `layers/`; `tasks/` and `models/` are folders of gin files as well.
    places = [ROOT, ROOT / "models", *([GIN] if folder in ("tasks", "models") else [])]
    return not any(exists(word, place) for place in places)


@pages
def test_files_of_the_repository_that_a_page_names_exist(page):
    blocks, spans = parts(page)
    text = " ".join([body for language, body in blocks if language != "python"] + spans)
    words = {word.strip(",.") for word in re.findall(r"[\w.{},*/-]+", text)}
    assert sorted(filter(names_a_missing_file, words)) == []


def test_every_page_is_linked_from_the_front_page():
    front = (DOCS / "index.md").read_text()
    assert "(docs/index.md)" in (ROOT / "README.md").read_text()
    for page in DOCS.rglob("*.md"):
        assert page.name == "index.md" or f"({page.relative_to(DOCS).as_posix()}" in front


def test_the_readme_shows_a_loss_an_isoflop_figure_and_the_architecture():
    pictures = re.findall(r"!\[.+\]\((.+)\)", (ROOT / "README.md").read_text())
    shown = " ".join(Path(picture).stem for picture in pictures)
    assert all(subject in shown for subject in ("loss", "isoflop", "architecture"))
    for picture in pictures:
        # What a browser cannot parse it does not show.
        if picture.endswith(".svg"):
            assert ElementTree.parse(ROOT / picture).getroot().get("viewBox")


def test_the_readme_lists_every_family_of_models():
    table = re.findall(r"^\| (.+?) \(.*?\) \| `models/", (DOCS / "models.md").read_text(), re.M)
    listed = re.search(r"^\*\*Models\*\*.*?\n\n", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(table) > 30
    assert [name for name in table if name not in " ".join(listed.group().split())] == []


def test_the_picture_of_a_loss_is_of_the_run_that_the_readme_shows():
    """`docs/pictures/quickstart_loss.py` draws it of the run's metrics."""
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^step (\d+)/220  (validation )?loss (\d\.\d+)", readme, re.M)
    (first, last, held_out) = [f"{float(loss):.2f}" for _, _, loss in shown]
    picture = (DOCS / "pictures" / "quickstart_loss.svg").read_text()
    title = re.search(r"<title.*?>(.*)</title>", picture).group(1)
    assert f"{first} nats per byte at step {shown[0][0]}, {last} at step {shown[1][0]}" in title
    assert f", {held_out} on held-out files" in title


def test_the_table_of_gin_files_names_those_that_there_are():
    training = (DOCS / "training.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", training, re.M)
    assert {folder for folder, _ in rows} == {path.name for path in GIN.iterdir()}
    for folder, cell in rows:
        if folder == "models":
            continue
        for name in re.findall(r"`([\w{},.]+)`", cell):
            names = name.replace("...", "*")
            assert exists(f"{folder}/{names}.gin", GIN), f"{folder}/{name}.gin"
    # Those of these folders are all there.
    for folder in ("optimizers", "examples"):
        listed = map(expanded, re.findall(r"`([\w{},.]+)`", dict(rows)[folder]))
        files = {path.stem for path in (GIN / folder).glob("*.gin")}
        assert files - {"defaults", *itertools.chain(*listed)} == set()


def test_the_table_of_batch_formats_names_those_that_there_are():
    section = (DOCS / "data.md").read_text().split("### Batch formats")[1].split("\n### ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", section, re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(formats.names())


# -- Commands -----------------------------------------------------------------------------------


@functools.cache
def help_text(*command):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        cli.main([*command, "--help"])
    return shown.getvalue()


@functools.cache
def flags(command):
    return set(re.findall(r"--[\w-]+", help_text(command)))


@functools.cache
def subcommands():
    return re.search(r"\{([\w,-]+)\}", help_text()).group(1).split(",")


@pages
def test_commands_and_their_flags_exist(page):
    missing = []
    for command, *arguments in commands(page):
        names = [argument.split("=")[0] for argument in arguments if argument.startswith("--")]
        known = flags(command) if command in subcommands() else set()
        missing += [f"{command} {n}" for n in names if n not in known and "--gin." not in n]
        missing += [] if known else [command]
    assert missing == []


@pages
def test_flags_that_stand_alone_belong_to_a_command(page):
    known = set().union(*(flags(command) for command in subcommands()))
    benchmarks = " ".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    named = [re.match(r"--[a-z][\w-]+", span) for span in parts(page)[1]]
    names = {name.group() for name in named if name} - known
    assert [n for n in sorted(names - OTHER_FLAGS) if f'"{n}"' not in benchmarks] == []


@pages
def test_targets_of_make_and_benchmarks_exist(page):
    blocks, spans = parts(page)
    lines = [line.strip() for _, body in blocks for line in body.splitlines()] + spans
    makefile = (ROOT / "Makefile").read_text()
    for line in lines:
        for target in re.findall(r"^make ((?:[a-z-]+ ?)+)", line.split("#")[0]):
            for name in target.split():
                assert re.search(rf"^{name}:", makefile, re.M), line
        ran = re.match(r"python (?:-m )?benchmarks[./](\w+?)(?:\.py)?(?= |$)(.*)", line)
        if ran:
            source = (ROOT / "benchmarks" / f"{ran.group(1)}.py").read_text()
            for flag in re.findall(r"--[\w-]+", ran.group(2)):
                assert f'"{flag}"' in source, line


# -- Names --------------------------------------------------------------------------------------


@functools.cache
def modules():
    """Dotted names of all modules of the three packages."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            found.append(name.removesuffix(".__init__"))
    return found


@functools.cache
def words():
    """All words of the source."""
    kinds = ("*.py", "*.gin", "*.sh", "*.sbatch", "*.yaml", "*.ipynb", "Makefile", "*.toml")
    here = Path(__file__)
    found = set()
    for folder in (*PACKAGES, "gin_configs", "benchmarks", "notebooks", "docs/launch", "tests"):
        for kind in kinds:
            for path in (ROOT / folder).rglob(kind):
                if path != here:
                    found.update(re.findall(r"\w+", path.read_text()))
    found.update(re.findall(r"\w+", (ROOT / "Makefile").read_text()))
    return found


def has(owner, name):
    """An attribute, a field without a default, or a parameter."""
    if hasattr(owner, name):
        return True
    if isinstance(owner, type) and any(
        name in vars(c).get("__annotations__", {}) for c in owner.__mro__
    ):
        return True
    try:
        return name in inspect.signature(owner).parameters
    except (TypeError, ValueError):
        return False


@functools.cache
def classes():
    """Name of a class to the modules that define it."""
    found = {}
    for module in modules():
        for name in defined(module):
            if name[0].isupper() and not name.isupper():
                found.setdefault(name, []).append(module)
    return found


@functools.cache
def resolves(dotted):
    """Whether a name like `checkpoints.CheckpointPolicy.period` exists, in any module."""
    first, *rest = dotted.split(".")
    if first in classes():
        return any(holds(home, [first, *rest]) for home in classes()[first])
    homes = [name for name in modules() if name == first or name.endswith(f".{first}")]
    return any(holds(home, rest) for home in homes)


@functools.cache
def defined(module):
    """Names that a module binds at its top level, without importing it."""
    stem = ROOT / module.replace(".", "/")
    path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def holds(module, names):
    """Whether names can be followed from a module, through modules and attributes."""
    names = list(names)
    while names and f"{module}.{names[0]}" in modules():
        module = f"{module}.{names.pop(0)}"
    if not names or (names[1:] == [] and names[0] in defined(module)):
        return True  # and nothing is imported: some modules import TensorFlow
    owner = importlib.import_module(module)
    for name in names:
        if not has(owner, name):
            return False
        owner = getattr(owner, name, None)
    return True


def of_t5x(dotted):
    """Whether it is an object of T5X that an error knows, or a parameter of one."""
    return dotted in T5X_OBJECTS or dotted.rpartition(".")[0] in T5X_OBJECTS


@pages
def test_dotted_names_exist(page):
    missing = []
    for span in parts(page)[1]:
        found = re.match(r"@?((?:[A-Za-z_]\w*\.)+\w+)(?:\(.*|$| =.*)", span)
        if found:
            first, dot, rest = found.group(1).partition(".")
            name = VARIABLES.get(first, first) + dot + rest
            if first not in OTHER_ROOTS and rest.split(".")[-1] not in EXTENSIONS:
                known = resolves(name) or resolves(found.group(1)) or of_t5x(found.group(1))
                missing += [] if known else [span]
    assert missing == []


@pages
def test_identifiers_are_words_of_the_source(page):
    identifier = re.compile(r"[A-Z]+[a-z]\w*[A-Z]\w*|[A-Za-z]\w*_\w+")
    named = {span for span in parts(page)[1] if identifier.fullmatch(span)}
    assert sorted(named - words() - ELSEWHERE) == []


@pages
def test_gin_bindings_exist(page):
    text = "\n".join(path.read_text() for path in GIN.rglob("*.gin"))
    macros = set(re.findall(r"^([A-Z_]+) =", text, re.M)) | set(re.findall(r"%([A-Z_]+)", text))
    missing = []
    for name, value in bindings(page):
        known = name in macros | {"NAME"} or resolves(name.split("/")[-1])
        references = re.findall(r"@([\w.]+)", value)
        missing += [] if known else [name]
        missing += [n for n in references if not n.endswith(".NAME") and not resolves(n)]
    assert missing == []


@pages
def test_gin_in_blocks_names_what_is_there(page):
    blocks, _ = parts(page)
    for language, body in blocks:
        if language != "python" and re.search(r"^from .* import ", body, re.M):
            names = re.findall(r"@(?:\w+/)?([\w.]+)", body)
            names += re.findall(r"^(?:\w+/)?([a-z_]\w*(?:\.\w+)+)\s*[:=]", body, re.M)
            for package, name in re.findall(r"^from (\S+) import (\w+)", body, re.M):
                if package != "__gin__":
                    names.append(f"{package}.{name}")
            assert [name for name in names if not resolves(name)] == []


@pages
def test_python_in_blocks_names_what_is_there(page):
    blocks, _ = parts(page)
    for language, body in blocks:
        if language != "python" or ">>>" in body:
            continue
        known = {}
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Import):
                known.update({alias.name: alias.name for alias in node.names})
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        ours = {name: full for name, full in known.items() if full.split(".")[0] in PACKAGES}
        for full in ours.values():
            assert resolves(full), full
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Call):
                check_call(node, ours)


def check_call(node, known):
    """A call of ours by its full name: the function exists and takes these keywords."""
    names, function = [], node.func
    while isinstance(function, ast.Attribute):
        names.insert(0, function.attr)
        function = function.value
    if isinstance(function, ast.Name) and function.id in known:
        full = ".".join([known[function.id], *names])
        for keyword in node.keywords:
            assert resolves(f"{full}.{keyword.arg}"), f"{full}({keyword.arg}=...)"
