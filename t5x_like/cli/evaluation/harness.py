"""`t5x-like eval-harness`: a run measured on tasks of lm-evaluation-harness."""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from t5x_like.errors import UserError

# Below a MODEL_DIR, where results go, and those of batches until an evaluation is done.
_FOLDER = "eval/lm_eval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="a run's")
    parser.add_argument(
        "--tasks", nargs="+", required=True, metavar="TASK", help="names, or YAML files of tasks"
    )
    parser.add_argument(
        "--include_path",
        action="append",
        default=[],
        metavar="DIR",
        help="with YAML files of tasks",
    )
    parser.add_argument("--num_fewshot", type=int, help="examples before each question")
    parser.add_argument("--limit", type=float, help="most examples of a task; below 1 a share")
    parser.add_argument("--batch_size", type=int, default=32, help="texts handled together")
    parser.add_argument("--step", type=int, help="the checkpoint; the newest by default")
    parser.add_argument(
        "--contexts",
        choices=("text", "inputs"),
        default="text",
        help="read as one text with what follows, or as the inputs of the run's task",
    )
    parser.add_argument(
        "--start_token",
        action=argparse.BooleanOptionalAction,
        help="whether a decoder reads it first; by default where transformers puts one",
    )
    parser.add_argument("--out", metavar="DIR", help=f"for results; MODEL_DIR/{_FOLDER} by default")
    parser.add_argument(
        "--log_samples", action="store_true", help="write every question and answer too"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace) -> None:
    """Measures a run, writes what lm_eval found, and prints its table."""
    _check(options)
    try:
        import lm_eval
        from lm_eval.utils import handle_non_serializable, make_table
    except ImportError:
        raise UserError(
            'eval-harness needs lm-evaluation-harness: pip install "t5x-like[lm-eval]".'
        ) from None
    from t5x_like.host import compilation_cache, files, memory
    from t5x_like.runs.harness import HarnessModel

    memory.keep_freed_memory()  # before the model asks for devices, which starts threads
    compilation_cache.enable()
    manager, tasks = _tasks(options)
    if options.dry_run:
        for name, task in manager.load(tasks)["tasks"].items():
            print(f"{name}: {len(task.eval_docs):,} examples, {task.OUTPUT_TYPE}")
        return
    model = HarnessModel(
        options.model_dir,
        step=options.step,
        contexts=options.contexts,
        start_token=options.start_token,
        batch_size=options.batch_size,
    )
    directory = files.location(options.out or f"{options.model_dir}/{_FOLDER}")
    with model.remembering(directory):
        results = lm_eval.simple_evaluate(
            model=model,
            model_args={"path": options.model_dir},
            tasks=tasks,
            num_fewshot=options.num_fewshot,
            batch_size=options.batch_size,
            limit=options.limit,
            log_samples=options.log_samples,
            task_manager=manager,
        )
        samples = results.pop("samples", {})
        date = datetime.datetime.now().isoformat().replace(":", "-")
        written = {f"results_{date}.json": [results]}
        written |= {f"samples_{name}_{date}.jsonl": rows for name, rows in samples.items()}
        for name, rows in written.items():
            lines = [
                json.dumps(row, default=handle_non_serializable, ensure_ascii=False) for row in rows
            ]
            files.write_whole(directory / name, "".join(f"{line}\n" for line in lines))
    if options.json:
        print(json.dumps(results, default=handle_non_serializable))
        return
    print(make_table(results))
    if results.get("groups"):
        print(make_table(results, "groups"))
    print(f"{directory / f'results_{date}.json'}")


def _check(options: argparse.Namespace) -> None:
    """Refuses what would be left aside, and numbers that make no sense."""
    if options.bindings or options.gin_file:
        raise UserError(
            "eval-harness reads the run's config.gin alone: leave out --gin_file and --gin.NAME."
        )
    if options.num_fewshot is not None and options.num_fewshot < 0:
        raise UserError(f"--num_fewshot is {options.num_fewshot}: give 0 or more.")
    if options.limit is not None and options.limit <= 0:
        raise UserError(f"--limit is {options.limit:g}: give a number of examples, or a share.")


def _tasks(options: argparse.Namespace) -> tuple[Any, list[str]]:
    """lm_eval's tasks of these names and files, and what loads them.

    Raises:
      UserError: an unknown name, or a file that is not there.
    """
    from lm_eval.tasks import TaskManager

    for directory in options.include_path:
        if not Path(directory).is_dir():
            raise UserError(f"--include_path '{directory}' is no directory.")

    class Manager(TaskManager):  # type: ignore[misc]
        def load(self, *arguments: Any, **named: Any) -> Any:
            try:
                return super().load(*arguments, **named)
            except Exception as error:
                raise UserError(f"lm_eval cannot load the tasks: {_first_line(error)}") from error

    names = list(dict.fromkeys(n for words in options.tasks for n in words.split(",") if n))
    files = [name for name in names if name.endswith((".yaml", ".yml"))]
    for name in files:
        if not Path(name).is_file():
            raise UserError(f"--tasks '{name}' is no file.")
    # lm_eval's own tasks are thousands of files, which take seconds to list. Groups name tasks.
    alone = len(files) == len(names) and not any("group:" in Path(f).read_text() for f in files)
    manager = Manager(include_path=options.include_path or None, include_defaults=not alone)
    found: list[str] = []
    for name in names:
        matches = [str(Path(name).absolute())] if name in files else manager.match_tasks([name])
        if not matches:
            raise UserError(
                f"lm_eval knows no task '{name}': `lm-eval ls tasks` lists what there is, and "
                "--include_path reads YAML files of your own."
            )
        found += matches
    return manager, found


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
