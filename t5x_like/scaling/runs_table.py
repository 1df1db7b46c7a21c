"""The table that laws are fitted to: a row a run, from a file, a frame or a sweep's directory."""

import difflib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.errors import UserError
from t5x_like.scaling.laws import TOTAL, WITHOUT_EMBEDDINGS

UNKNOWN, MIXED = "unknown", "mixed"

# Accepted column names, in lower case with "_" between words.
NUMBERS: Mapping[str, tuple[str, ...]] = {
    "parameters": (
        "parameters", "n", "params", "num_params", "num_parameters", "n_params", "model_size",
        "total_parameters", "total_params",
    ),
    "parameters_without_embeddings": (
        "parameters_without_embeddings", "n_without_embeddings", "non_embedding_parameters",
        "non_embedding_params", "params_without_embeddings",
    ),
    "active_parameters": ("active_parameters", "active_params"),
    "tokens": (
        "tokens", "d", "training_tokens", "train_tokens", "num_tokens", "n_tokens", "dataset_size",
    ),
    "flops": ("flops", "c", "flop", "training_flop", "training_flops", "train_flops", "compute"),
    "loss": (
        "loss", "l", "final_loss", "val_loss", "valid_loss", "validation_loss", "eval_loss",
        "test_loss",
    ),
    "loss_standard_error": (
        "loss_standard_error", "standard_error", "loss_stderr", "stderr", "loss_se", "std_error",
    ),
    "budget": ("budget", "flops_budget", "isoflop", "isoflop_budget"),
    "warmup_fraction": ("warmup_fraction",),
    "step": ("step", "steps"),
}  # fmt: skip
TEXTS: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "run", "run_name", "run_id", "cell"),
    "variant": ("variant",),
    "gin_file": ("gin_file",),
    "parameters_kind": ("parameters_kind",),
}
_MISSING = ("", "nan", "none", "null", "na", "n/a")

_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": functools.partial(pd.read_csv, dtype=str, keep_default_na=False),
    ".tsv": functools.partial(pd.read_csv, dtype=str, keep_default_na=False, sep="\t"),
    # Without pandas' guesses: no dates, and no loss of digits.
    ".jsonl": functools.partial(
        pd.read_json, lines=True, dtype=False, convert_dates=False, precise_float=True
    ),
    ".parquet": pd.read_parquet,
}


@dataclass(frozen=True)
class RunsTable:
    """Runs that a law can be fitted to, and those that were left out.

    Attributes:
      frame: a row a run, float64: `parameters` (N, by `parameters_kind`, a column of "total",
        "without_embeddings" or "unknown"), `tokens` (D), `flops` (C; 6·N·D where the file has
        none), `loss` (nats a token); texts `name` and `variant` (""); and where they are known
        `parameters_without_embeddings`, `active_parameters`, `loss_standard_error` (in the loss's
        units), `budget` (of the IsoFLOP group, in FLOPs), `warmup_fraction`, `gin_file`. Its
        index is the row in the file, from 1.
      left_out: {"row", "name", "reason"} of each row that cannot be used.
      curves: training curves in the same columns, several rows a `name`; None if there are none.
      flops_given: whether `flops` was measured or given, rather than made from N and D.
    """

    frame: pd.DataFrame
    left_out: list[dict[str, Any]] = field(default_factory=list)
    curves: pd.DataFrame | None = None
    flops_given: bool = False

    @property
    def parameters_kind(self) -> str:
        """What N counts in all rows; "mixed" if they differ."""
        kinds = set(self.frame["parameters_kind"])
        return kinds.pop() if len(kinds) == 1 else MIXED if kinds else UNKNOWN

    def without(self, rows: Sequence[int], reason: str) -> "RunsTable":
        """Removes the rows with these index values, and lists them in `left_out` with a reason."""
        lost = [
            {"row": int(row), "name": str(self.frame.loc[row, "name"]), "reason": reason}
            for row in rows
        ]
        return RunsTable(
            self.frame.drop(index=list(rows)), self.left_out + lost, self.curves, self.flops_given
        )

    def variants(self) -> list[str]:
        """The names of the variants, in order of appearance."""
        return list(dict.fromkeys(self.frame["variant"]))

    def of_variant(self, variant: str) -> "RunsTable":
        """Selects the rows of one variant.

        Raises:
          UserError: there is no such variant.
        """
        if variant not in self.variants():
            known = ", ".join(f"'{name}'" for name in self.variants())
            raise UserError(f"no run is of the variant '{variant}'; there are {known}.")
        curves = self.curves
        if curves is not None:
            curves = curves[curves["variant"] == variant]
        frame = self.frame[self.frame["variant"] == variant]
        return RunsTable(frame, self.left_out, curves, self.flops_given)


def read_runs(path: str | os.PathLike[str]) -> RunsTable:
    """Reads runs from a CSV, TSV, JSONL or Parquet file, or from a sweep's directory.

    Columns are found by their usual names (`NUMBERS`, `TEXTS`), in any case.

    Raises:
      UserError: there is no such file, it cannot be read, N or D (or C in the place of one) or
        the loss is missing, or a value is not a number.
    """
    place = Path(path)
    if place.is_dir():
        return _from_sweep(place)
    if not place.exists():
        raise UserError(f"there is no file or directory {place}.")
    if place.suffix.lower() not in _READERS:
        known = ", ".join(_READERS)
        raise UserError(f"{place} must be one of {known}, or the directory of a sweep.")
    try:
        frame = _READERS[place.suffix.lower()](place)
    except (ValueError, OSError) as error:
        raise UserError(f"{place} cannot be read: {str(error).splitlines()[0]}.") from error
    return from_frame(frame, str(place))


def from_frame(frame: pd.DataFrame, where: str = "the frame") -> RunsTable:
    """Reads runs from a frame with columns of the usual names.

    Args:
      frame: a row a run (or several rows a `name`: the points of its training curve).
      where: the name of the frame in errors.

    Raises:
      UserError: as `read_runs`.
    """
    columns = _columns(frame, where)
    known = pd.DataFrame(index=pd.RangeIndex(1, len(frame) + 1))
    for name, column in columns.items():
        values = frame[column]
        if name in NUMBERS:
            known[name] = _numbers(values, column, where)
        else:
            known[name] = ["" if pd.isna(value) else str(value) for value in values]
    if "name" not in known:
        known["name"] = [f"row {row}" for row in known.index]
    if "variant" not in known:
        known["variant"] = ""
    flops_given = "flops" in known
    _count_parameters(known)
    _complete(known)
    reasons = known.apply(_unusable, axis=1) if len(known) else pd.Series(dtype=str)
    left_out = [
        {"row": int(row), "name": str(known.loc[row, "name"]), "reason": reason}
        for row, reason in reasons.items()
        if reason
    ]
    return RunsTable(known[(reasons == "").to_numpy(dtype=bool)], left_out, None, flops_given)


def _from_sweep(place: Path) -> RunsTable:
    from t5x_like.scaling.sweeps import results

    cells = results.sweep_results(place)
    # Indexed by cell number, as a file's rows are by line.
    numbered = cells.set_axis(pd.RangeIndex(1, len(cells) + 1), axis=0)
    done = (numbered["status"] == "done").to_numpy(dtype=bool)
    waiting = [
        {"row": int(row), "name": str(cell["name"]), "reason": f"the run is {cell['status']}"}
        for row, cell in numbered[~done].iterrows()
    ]
    table = from_frame(numbered, str(place))
    undone = {entry["row"] for entry in waiting}
    failed = [entry for entry in table.left_out if entry["row"] not in undone]
    frame = table.frame.drop(index=[row for row in table.frame.index if row in undone])
    records = results.training_curves(place)
    curves = from_frame(records, f"the curves of {place}").frame if len(records) else None
    return RunsTable(frame, waiting + failed, curves, table.flops_given)


def _columns(frame: pd.DataFrame, where: str) -> dict[str, str]:
    """Maps our name of each column that is known to its name in the frame."""
    given = {_plain(str(column)): column for column in reversed(frame.columns)}
    found = {}
    for name, spellings in {**NUMBERS, **TEXTS}.items():
        column = next((given[spelling] for spelling in spellings if spelling in given), None)
        if column is not None:
            found[name] = column
    if "loss" not in found:
        raise _missing("loss", ("loss",), frame, where)
    counts = {"parameters", "parameters_without_embeddings"} & set(found)
    if not counts and not {"tokens", "flops"} <= set(found):
        raise _missing("model size", ("parameters",), frame, where)
    if "tokens" not in found and "flops" not in found:
        raise _missing("tokens or FLOPs", ("tokens", "flops"), frame, where)
    return found


def _missing(what: str, names: Sequence[str], frame: pd.DataFrame, where: str) -> UserError:
    spellings = [spelling for name in names for spelling in NUMBERS[name]]
    columns = [str(column) for column in frame.columns]
    near = [
        column
        for column in columns
        if difflib.get_close_matches(_plain(column), spellings, n=1, cutoff=0.75)
    ]
    hint = f" (is it '{near[0]}'?)" if near else ""
    return UserError(
        f"{where} has no column of {what}{hint}: found {', '.join(columns)}; accepted, in any "
        f"case, are {', '.join(spellings)}."
    )


def _plain(column: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in column).split()
    return "_".join(words).lower()


def _numbers(values: pd.Series, column: str, where: str) -> np.ndarray:
    """Converts a column to float64 before any arithmetic, because 6·N·D overflows int64."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = np.full(len(values), np.nan)
    for place, value in enumerate(values):
        if value is None or str(value).strip().lower() in _MISSING:
            continue
        try:
            numbers[place] = float(value)
        except (TypeError, ValueError):
            raise UserError(
                f"{where}, row {place + 1}: '{value}' in the column '{column}' is not a number."
            ) from None
    return numbers


def _count_parameters(known: pd.DataFrame) -> None:
    """Adds `parameters` and `parameters_kind`: N with embeddings if that is known."""
    given = "parameters" in known
    if not given and "parameters_without_embeddings" in known:
        known["parameters"] = known["parameters_without_embeddings"]
    if "parameters_kind" in known:
        return
    if "parameters_without_embeddings" not in known:
        known["parameters_kind"] = UNKNOWN
        return
    if not given:
        known["parameters_kind"] = WITHOUT_EMBEDDINGS
        return
    # A total no larger than the count without embeddings is a copy of it.
    same = known["parameters"] <= known["parameters_without_embeddings"]
    absent = known["parameters"].isna()
    known["parameters"] = known["parameters"].fillna(known["parameters_without_embeddings"])
    known["parameters_kind"] = np.where(same | absent, WITHOUT_EMBEDDINGS, TOTAL)


def _complete(known: pd.DataFrame) -> None:
    """Computes the missing one of N, D and C from the other two."""
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in ("parameters", "tokens", "flops"):
            if name not in known:
                known[name] = np.nan
        # Inactive experts cost no FLOPs.
        active = known.get("active_parameters", known["parameters"]).fillna(known["parameters"])
        known["tokens"] = known["tokens"].fillna(known["flops"] / 6 / active)
        known["flops"] = known["flops"].fillna(6 * active * known["tokens"])
        known["parameters"] = known["parameters"].fillna(known["flops"] / 6 / known["tokens"])
    if "parameters_kind" not in known:
        known["parameters_kind"] = UNKNOWN


def _unusable(row: pd.Series) -> str:
    """Why a row cannot be used for a fit; "" if it can."""
    for name, word in (("loss", "loss"), ("parameters", "N"), ("tokens", "D"), ("flops", "C")):
        value = row[name]
        if np.isnan(value):
            return f"{word} is missing or NaN"
        if np.isinf(value):
            return f"{word} is infinite"
        if value <= 0:
            return f"{word} is {value:g}, not above 0"
    return ""
