"""The command `ngram`: an n-gram language model of a task's tokens."""

import json
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from t5x_like.cli.configuration import check, configure, warn
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.errors import UserError

_GIN_FILE = "runs/ngram.gin"
# By their names on the command line, the classes of models.ngrams.smoothing.
SMOOTHINGS = {
    "maximum_likelihood": "MaximumLikelihood",
    "add_k": "AddK",
    "witten_bell": "WittenBell",
    "katz": "Katz",
    "kneser_ney": "KneserNey",
    "modified_kneser_ney": "ModifiedKneserNey",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("task", nargs="?", help="name; MIXTURE_OR_TASK_NAME by default")
    parser.add_argument(
        "--order", type=int, metavar="N", help="tokens of the longest n-grams, 1 to 9; 5"
    )
    parser.add_argument(
        "--smoothing", choices=SMOOTHINGS, help="of probabilities; modified_kneser_ney"
    )
    parser.add_argument("--arpa", metavar="FILE", help="write the model in ARPA's text format too")
    parser.add_argument(
        "--from_arpa", metavar="FILE", help="read the model from such a file in place of counting"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: Namespace) -> None:
    """Counts the model, and makes a MODEL_DIR of it.

    Raises:
      UserError: see `counting.count`; no such task; or the ARPA file is there already.
    """
    from t5x_like import counting
    from t5x_like.cli import caching, preflight
    from t5x_like.cli.imported_gin import model_text
    from t5x_like.protocols import Model

    _name_task(options)
    _add_bindings(options)
    config = configure(options, _GIN_FILE)
    warn(options, check(options, counting.count, _GIN_FILE))
    config.macro("COUNTER")  # refuses an order that cannot be, before a cache is built
    program = config.configured(counting.count, _GIN_FILE)
    if options.dry_run:
        preflight.check_read(counting.count)
        print(config.full_text(sources=True))
        return
    if options.arpa:
        _check_arpa(options.arpa, config)
    options.gin_file = [_GIN_FILE, *options.gin_file]  # which knows orders and smoothing
    caching.build_missing(options, config)

    def config_text(model: Model) -> str:
        own = model_text(model, None, Path(), head=True)
        return f"{config.operative_text()}\n# The model:\n# {'=' * 78}\n{own}"

    found = program(config_text=config_text)
    for note in found["notes"]:
        warn(options, [note])
    if options.arpa:
        _write_arpa(options.arpa, found["model_dir"], config)
        found["arpa"] = options.arpa
    source = options.from_arpa or f"{found['tokens']:,} tokens"
    line = (
        f"{found['model_dir']}: {found['parameters']:,} n-grams of {source} in "
        f"{found['seconds']:.1f} s"
    )
    print(json.dumps(found) if options.json else line)


def _add_bindings(options: Namespace) -> None:
    """Puts the command's own flags among the bindings."""
    if options.from_arpa is not None:
        for name in ("order", "smoothing"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is for counting: the file of --from_arpa has its own.")
        if not Path(options.from_arpa).is_file():  # before a cache is built
            raise UserError(f"--from_arpa: file '{options.from_arpa}' not found.")
        options.bindings.append(("COUNTER", "@ngram.ARPAFile()"))
        options.bindings.append(("ngram.ARPAFile.path", options.from_arpa))
    if options.order is not None:
        options.bindings.append(("ORDER", str(options.order)))
    if options.smoothing is not None:
        name = SMOOTHINGS[options.smoothing]
        options.bindings.append(("SMOOTHING", f"@smoothing.{name}()"))


def _name_task(options: Namespace) -> None:
    """Puts the task that is named among the gin files or bindings, and a MODEL_DIR for it."""
    if options.task is None:
        return
    name, has_files = f"tasks/{options.task}.gin", bool(options.gin_file)
    if not has_files and (packaged_gin_configs() / name).is_file():
        options.gin_file = [name]
    else:
        if not has_files and not options.module_import:
            import tasks

            tasks.get_mixture_or_task(options.task)  # says so where there is none
        options.bindings.append(("MIXTURE_OR_TASK_NAME", options.task))
    if not has_files and "MODEL_DIR" not in dict(options.bindings):
        options.bindings.append(("MODEL_DIR", f"runs/ngram/{options.task}"))


def _check_arpa(path: str, config: Any) -> None:
    if Path(path).exists():
        raise UserError(f"'{path}' is there already: give --arpa another name.")
    smoothing = config.macro("SMOOTHING")
    if not smoothing.backs_off:
        raise UserError(
            f"--arpa is for models that back off to shorter contexts, which {smoothing} does not: "
            "choose another smoothing, or leave --arpa out."
        )
    start_id, end_id = _boundaries(config)
    if start_id == end_id:
        raise UserError(
            f"--arpa needs two tokens, <s> and </s>, but the vocabulary has one, {end_id}, that "
            "begins a text and ends it: leave --arpa out."
        )


def _boundaries(config: Any) -> tuple[int, int]:
    """The tokens that stand before a text and end it."""
    vocabulary = config.macro("TASK").tasks[0][0].output_features["targets"].vocabulary
    return getattr(vocabulary, "start_id", 0), vocabulary.eos_id


def _write_arpa(path: str, model_dir: str, config: Any) -> None:
    """Writes the model of a MODEL_DIR to a file, all or nothing."""
    from models.ngrams import arpa
    from t5x_like import load_run
    from t5x_like.checkpoints import host_params

    run = load_run(model_dir)
    table: Any = host_params.read_params(model_dir, run.model)[0]
    start_id, end_id = _boundaries(config)
    with tempfile.TemporaryDirectory(dir=Path(path).absolute().parent) as temporary:
        made = Path(temporary) / Path(path).name
        arpa.write_arpa(made, table, start_id=start_id, end_id=end_id)
        made.replace(path)
