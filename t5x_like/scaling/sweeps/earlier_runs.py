"""Whether the runs that a sweep's directory holds are those that are planned now."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_like import config, train
from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.scaling.sweeps.cells import GIN_FILE, Cell, cell_directory, naming_run
from t5x_like.training import identity
from t5x_like.training.plan import TrainingPlan

# Of a run's record in `sweep.json`.
_FIXED = ("parameters", "tokens", "steps", "batch_tokens", "learning_rate", "seed", "stem", "start")
# What a run may change when it is resumed, but not where its losses are compared with others'.
_COMPARED = ("validation", "validation_rows", "evaluations")


def check(
    root: Path, sweep_name: str, records: Sequence[Mapping[str, Any]], cells: Sequence[Cell]
) -> None:
    """Compares what was run with what is planned, before anything is written.

    What was planned and has not begun may be planned otherwise.

    Args:
      root: the sweep's directory.
      sweep_name: of the sweep.
      records: of `sweep.json`, if there is one.
      cells: the runs that are planned.

    Raises:
      UserError: a run of the same name is of another configuration.
    """
    planned = {cell.name: cell.record() for cell in cells}
    for record in records:
        if not _has_begun(root, record["name"]):
            continue
        new = planned.get(record["name"], record)
        for field in _FIXED:
            if new.get(field) != record.get(field):
                change = f"{field} {record.get(field)}, this one's {new[field]}"
                raise _another_sweep(root, record["name"], change)
    for cell in _to_be_read(root, sweep_name, cells):
        for change in _changes(root, sweep_name, cell):
            raise _another_sweep(root, cell.name, change)


def check_search(root: Path, plan: Mapping[str, Any], search: Sequence[Cell]) -> None:
    """Refuses another search of learning rates than begun runs have their rates of.

    Its runs take long, and only after them would rates be known that are others.

    Args:
      root: the sweep's directory.
      plan: of `sweep.json`, with its `search`, `earlier` and `cells`.
      search: the runs of the search now; none of a sweep without one.

    Raises:
      UserError: a run has begun with the rate of another search.
    """
    before, now = {one["name"] for one in plan["search"]}, {cell.name for cell in search}
    if not before or not now or before == now:
        return
    for record in (*plan["earlier"], *plan["cells"]):
        if _has_begun(root, record["name"]):
            one = min(before ^ now)
            raise UserError(
                f"SWEEP_DIR '{root}' holds another sweep: the rate of its run {record['name']} is "
                f"of another search, {'with' if one in before else 'without'} {one}. Choose "
                "another SWEEP_DIR."
            )


def _has_begun(root: Path, name: str) -> bool:
    return (cell_directory(root, name) / identity.FILE).exists()


def _another_sweep(root: Path, name: str, change: str) -> UserError:
    return UserError(
        f"SWEEP_DIR '{root}' holds another sweep: its run {name} has {change}. Choose another "
        "SWEEP_DIR."
    )


def _to_be_read(root: Path, sweep_name: str, cells: Sequence[Cell]) -> Iterator[Cell]:
    """The begun runs with another gin file than planned; of those with the same, one of a kind.

    What a gin file includes may have changed too, and is alike for all runs of a variant and stage.
    """
    seen = set()
    for cell in cells:
        if not (cell.directory(root) / identity.FILE).exists():
            continue
        path = cell.directory(root) / GIN_FILE
        same = path.exists() and path.read_text() == cell.gin_text(sweep_name, root)
        if same and cell.family in seen:
            continue
        seen.add(cell.family)
        yield cell


def _changes(root: Path, sweep_name: str, cell: Cell) -> Iterator[str]:
    before = identity.read(files.location(cell.directory(root)))
    if before is None:
        return
    text = cell.gin_text(sweep_name, root)
    with naming_run(sweep_name, cell.variant), config.isolated():
        config.parse([config.GinText(str(cell.directory(root) / GIN_FILE), text)])
        now = config.built(train.train, TrainingPlan).described(mesh=False)
    for line in identity.compare(before, now).refused:
        name, _, values = line.partition(": ")
        yield f"{name} {', this one '.join(values.split(' -> ', 1))}"
    for name in _COMPARED:
        old, new = before.settings.get(name), now.settings.get(name)
        if old is not None and old != new:  # an earlier version did not write all of them
            yield f"{name} {old}, this one {new}"
