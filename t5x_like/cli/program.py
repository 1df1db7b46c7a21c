"""The command line: the one place that may reach into engine, models and tasks.

Everything heavy is imported by the subcommand that needs it.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from t5x_like.cli import averaging, caching, child_process, exchange, notebook, suites
from t5x_like.cli import scaling as scaling_commands
from t5x_like.cli.arguments import (
    OneLineParser,
    check_contradictions,
    common_parser,
    split_gin_bindings,
)
from t5x_like.cli.configuration import PROGRAM, check, configure, warn
from t5x_like.cli.corpus import commands as corpus_commands
from t5x_like.cli.evaluation import averages, harness
from t5x_like.cli.reference import help as help_command
from t5x_like.distributed import preemption
from t5x_like.errors import UserError
from t5x_like.host import log_records, own_packages

EXIT_DONE, EXIT_INTERNAL_ERROR, EXIT_USER = 0, 1, 2
# Commands that configure nothing: a flag of gin's that they passed over would mislead.
_WITHOUT_GIN = (
    "average", "ensemble", "fit", "glue-average", "help", "report", "super-glue-average",
)  # fmt: skip
EXIT_UNREAD = 141  # as a shell reports what SIGPIPE has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: the arguments after the program's name; those of the process when None.

    Returns:
      0 done, 2 the user's mistake (one line on standard error), 1 an internal error, 143
      stopped by SIGTERM or 130 by Ctrl-C, after saving what there was to save, 141 the output is
      not read.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    _print_any_name()
    try:
        options = _parse_arguments(arguments)
        own_packages.check()
        with (
            preemption.end_on_signal(options.kept),
            notebook.one_stream(arguments),
            _warnings_as_lines(),
        ):
            options.run(options)
            sys.stdout.flush()
        return EXIT_DONE
    except SystemExit as end:  # argparse, after --help
        return int(end.code or 0)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if isinstance(error, BrokenPipeError) and _output_is_unread():
            return EXIT_UNREAD
        if debug or code is None:
            traceback.print_exc()
        if code is not None:
            # gin appends where the failing object was being built; one line is enough.
            print(f"{PROGRAM}: error: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return EXIT_INTERNAL_ERROR if code is None else int(code)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Prints what our packages warn of as it is, each once, without level and module before it."""

    @functools.cache
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with contextlib.ExitStack() as told:
        for package in ("t5x_like", "models", "tasks"):
            told.enter_context(log_records.told(package, say))
        yield


def _print_any_name() -> None:
    """Escapes what the terminal's encoding lacks: names of files may have any bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _output_is_unread() -> bool:
    """Whether standard output's reader has gone; if so, what is left to write is dropped."""
    place = sys.stdout.fileno()
    waiting = select.poll()
    waiting.register(place, 0)
    if not any(event & select.POLLERR for _, event in waiting.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), place)  # Python flushes once more when it ends
    return True


# -- Arguments -------------------------------------------------------------------------------


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    bindings, rest = split_gin_bindings(arguments)
    common = common_parser()
    parser = OneLineParser(prog=PROGRAM, description="Text-to-text and language models in JAX.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=OneLineParser)

    def command(name: str, run: Callable[[Any], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(run=run, kept=preemption.NOTHING_KEPT)
        return added

    for name, run, text in (
        ("train", _train, "Train a gin file's model."),
        ("align", _align, "Reinforcement learning from rewards: PPO and REINFORCE."),
    ):
        trains = command(name, run, text)
        trains.add_argument(
            "--allow_config_change", action="store_true", help="continue a run as another one"
        )
        trains.set_defaults(kept="no step was to be saved; the same command resumes where it was.")
    command("eval", _eval, "Measure loss and task metrics of a trained model.").set_defaults(
        kept="what was measured is kept; the same command measures the rest."
    )
    infer = command("infer", _infer, "Generate text for a file of inputs.")
    infer.set_defaults(
        kept="answers that are in a file are kept; the same command resumes after them."
    )
    infer.add_argument("--tools", action="store_true", help="let the model use runs/tools.gin")
    caching.add_arguments(
        command(
            "cache", _cache, "Tokenize a task or mixture into its cache; list and remove caches."
        ),
        command("vocab", _vocab, "Train a vocabulary on a task's text."),
    )
    corpus_commands.add(command)
    inspect = command("inspect", _inspect, "Show a model's parameters, FLOPs and memory.")
    inspect.add_argument("--topology", help="whose devices the mesh divides: v5p-64, cpu:8")
    inspect.add_argument("--json", action="store_true", help="one JSON object on standard output")
    ahead = command("compile", _compile, "Compile the training step for devices not here.")
    ahead.add_argument("--topology", help="a TPU slice, v5p-64 or v5p:2x4x4, or devices, cpu:8")
    ahead.add_argument("--num_slices", type=int, help="slices joined by the network; 1 by default")
    ahead.add_argument("--json", action="store_true", help="one JSON object on standard output")
    ahead.add_argument("--save", metavar="FILE", help="keep the result, as JSON")
    ahead.add_argument("--compare", metavar="FILE", help="show what changed since a kept result")
    exchange.add(command)
    averaging.add(command)
    for name, run, title in (
        ("glue-average", averages.glue, "GLUE"),
        ("super-glue-average", averages.super_glue, "SuperGLUE"),
    ):
        averages.add_arguments(command(name, run, f"{title} as one number, of evaluated runs."))
    harness.add_arguments(
        command("eval-harness", harness.run, "Measure a run on tasks of lm-evaluation-harness.")
    )
    scaling_commands.add(command)
    described = command("help", help_command.run, "Say what a name of gin files means.")
    described.add_argument("names", nargs="+", metavar="NAME", help="optimizers.muon, MODEL_DIR")
    options = parser.parse_args(rest)
    if options.command in _WITHOUT_GIN and (bindings or options.gin_file):
        raise UserError(
            f"{options.command} reads no configuration: leave out --gin_file and --gin.NAME."
        )
    if options.tfds_data_dir:
        bindings.insert(0, ("TFDS_DATA_DIR", options.tfds_data_dir))
    check_contradictions(bindings)
    options.bindings = bindings
    options.arguments = list(arguments)
    return options


def _run_program(
    options: argparse.Namespace, module: str, name: str, example: str, config: Any = None
) -> Any:
    """Calls a program as gin configures it, or shows the configuration for `--dry_run`."""
    config = config or configure(options)
    function = getattr(importlib.import_module(module), name)
    warn(options, check(options, function, example))
    program = config.configured(function, example)
    if options.dry_run:
        from t5x_like.cli import preflight

        preflight.check_read(function)
        print(config.full_text(sources=True))
        return None
    with _joined(options, config):
        return program()


def _joined(options: argparse.Namespace, config: Any) -> Any:
    from t5x_like.distributed.startup import joined

    place = options.coordinator_address, options.process_count, options.process_index
    return joined(config.full_text(), *place)


# -- Commands --------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    from t5x_like import train
    from t5x_like.training.plan import TrainingPlan

    _train_as(options, train.train, TrainingPlan, train.train_plan, "runs/pretrain.gin")


def _align(options: argparse.Namespace) -> None:
    from t5x_like import align
    from t5x_like.alignment.plan import AlignmentPlan

    _train_as(options, align.align, AlignmentPlan, align.align_plan, "runs/align.gin")


def _train_as(
    options: argparse.Namespace,
    program: Callable[..., Any],
    make_plan: Callable[..., Any],
    run: Callable[[Any], Any],
    example: str,
) -> None:
    """Checks and starts a run, or for `--dry_run` shows its configuration.

    Args:
      options: the command line.
      program: as gin files name it.
      make_plan: of its arguments.
      run: does what the plan says.
      example: a packaged file that configures the program.
    """
    from t5x_like import config
    from t5x_like.cli import preflight
    from t5x_like.host import memory

    _configure_with_foreign_tasks(options, program, example)
    warnings = check(options, program, example)

    def planned() -> Any:
        plan = config.built(program, make_plan)
        changed = plan.allow_config_change or options.allow_config_change
        return dataclasses.replace(
            plan, config_text=config.operative_text, allow_config_change=changed
        )

    if options.dry_run:
        # The mesh is for the machine that will train: `inspect` and `compile` look at it.
        warn(options, [*warnings, *preflight.check(planned(), here=False)])
        print(config.full_text(sources=True))
        return
    with _joined(options, config):
        memory.keep_freed_memory()  # before a mesh asks for devices, which starts threads
        if config.has_macro("TRAIN_EPOCHS"):  # of which the plan counts the steps
            caching.build_missing(options, config)
        plan = planned()
        warn(options, [*warnings, *preflight.check(plan)])
        caching.build_missing(options, config)
        run(plan)


def _eval(options: argparse.Namespace) -> None:
    from t5x_like.host import memory

    config = configure(options)
    memory.keep_freed_memory()  # before a mesh asks for devices, which starts threads
    if not config.has_macro("SUITE"):
        _run_program(options, "t5x_like.evaluate", "evaluate", "runs/eval.gin", config)
        return
    suites.build_missing(options, config)
    _run_program(options, "t5x_like.suites", "evaluate_suite", "suites/llama.gin", config)


def _infer(options: argparse.Namespace) -> None:
    options.gin_file += ["runs/tools.gin"] * options.tools
    _run_program(options, "t5x_like.infer", "infer", "runs/infer.gin")


def _cache(options: argparse.Namespace) -> None:
    if options.parent is not None:
        preemption.end_with_parent(options.parent)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings
    caching.cache(options, configure(options, "runs/cache.gin"))


def _vocab(options: argparse.Namespace) -> None:
    caching.vocab(options, configure(options, "runs/cache.gin"))


def _inspect(options: argparse.Namespace) -> None:
    from t5x_like import inspection
    from t5x_like.cost import topologies

    if options.topology is not None:
        options.bindings.append(("TOPOLOGY", options.topology))
        check_contradictions(options.bindings)
    config = configure(options, "runs/inspect.gin")
    if config.has_macro("COUNTER") and not config.has_macro("MODEL"):
        raise UserError(
            "an n-gram model is what it has counted: count it first (t5x-like ngram), and inspect "
            "the config.gin of its MODEL_DIR."
        )
    if topology := config.macro("TOPOLOGY"):
        # Before anything that gin builds starts JAX.
        topologies.simulated(topology, topologies.num_devices(topology))
    report = config.configured(inspection.inspect)()
    if options.json:
        print(json.dumps(report))
    else:
        print(inspection.report_text(report))


def _compile(options: argparse.Namespace) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # JAX would look for a TPU that is not there
    from t5x_like import aot
    from t5x_like.cost import compile_report, fitting_memory, topologies

    for name in ("topology", "num_slices"):
        if (value := getattr(options, name)) is not None:
            options.bindings.append((name.upper(), str(value)))
    check_contradictions(options.bindings)
    if options.save is not None:
        compile_report.check_place(options.save)
    saved = compile_report.read(options.compare) if options.compare else None
    config = configure(options, "runs/compile.gin")
    program = config.configured(aot.compile_step)
    if options.dry_run:
        print(config.full_text(sources=True))
        return
    if str(topology := config.macro("TOPOLOGY")).startswith("cpu:"):
        topologies.simulated(topology, topologies.num_devices(topology))  # as in `inspect`
    report = program()
    compile_report.show(report, as_json=options.json, save=options.save, saved=saved)
    if report["fits"] is False:
        raise aot.DoesNotFit(f"the step of {report['topology']} {fitting_memory.shortage(report)}.")


def _configure_with_foreign_tasks(
    options: argparse.Namespace, program: Callable[..., Any], example: str
) -> None:
    """Parses the configuration; a user's seqio task is known without importing its module.

    The module imports seqio, and so TensorFlow. It is imported in another process, which
    writes the task's declaration; a run that resumes from its `config.gin`, or on a host
    without seqio, finds the declaration that was written before.
    """
    import tasks
    from t5x_like import config
    from t5x_like.data.cache import layout
    from tasks import manifest

    modules, options.module_import = options.module_import, []
    configure(options)
    config.check(program, example)
    options.module_import = modules
    if modules and importlib.util.find_spec("seqio"):
        child_process.run("cache", options, "--declare")
    if config.has_macro("MIXTURE_OR_TASK_NAME"):  # else the task is built in gin
        name = config.macro("MIXTURE_OR_TASK_NAME")
        path = caching.declaration_path(str(name), config.macro("CACHE_DIR"))
        if path.is_file() and name not in tasks.names():
            foreign: Any = manifest.from_json(layout.read_json(path))
            tasks.add_task(foreign)
            options.module_import = []
    config.import_modules(options.module_import)
