"""Loads the law of a plan: a published law by its name, or a fit's file."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from t5x_like.errors import UserError
from t5x_like.scaling import laws
from t5x_like.scaling.named_laws import KnownLaw, known

_NO_SAMPLES = "the fit has no bootstrap samples (`fit --bootstrap 1000`), so there is no interval."
_UNDETERMINED = (
    "the runs behind this law do not determine its {}: other values fit them as well, so that "
    "this is one answer of many, and there is no interval."
)
_NO_LOSS = "the fit only allocates a budget, and predicts no loss; fit with approach3 for that."


def chosen_law(name: str) -> KnownLaw:
    """Loads a law by name (`named_laws.NAMES`), or from a file that `fit --json` wrote.

    Raises:
      UserError: there is no such name or file.
    """
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        return _fitted(path)
    return known(name)


def _fitted(path: Path) -> KnownLaw:
    try:
        written = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--law={path}: not the JSON of a fit: {error}.") from error
    if not isinstance(written, dict) or not isinstance(written.get("law"), dict):
        raise UserError(
            f'--law={path}: not a fit, it has no "law": `t5x-like fit RUNS --json` writes one.'
        )
    law = laws.from_json(written["law"])
    samples = _samples(law, written.get("samples") or {}, path)
    silent = law.loss(1e9, 1e10) is None
    open_names = written.get("undetermined")
    if open_names:
        undetermined = _UNDETERMINED.format(", ".join(map(str, open_names)))
        return KnownLaw(law, None, notes=(undetermined, *(_NO_LOSS,) * silent))
    notes = (_NO_SAMPLES,) * (samples is None) + (_NO_LOSS,) * silent
    return KnownLaw(law, samples, notes=notes)


def _samples(law: Any, columns: Mapping[str, Any], path: Path) -> Any:
    """The law with an array for each coefficient; None without a bootstrap that gave laws."""
    names = law.coefficients()
    if not all(name in columns for name in names):
        return None
    try:
        arrays = {name: np.asarray(columns[name], dtype=np.float64) for name in names}
    except (TypeError, ValueError) as error:
        raise UserError(f"--law={path}: samples of {', '.join(names)}: {error}.") from error
    if len({array.shape for array in arrays.values()}) > 1:
        raise UserError(f"--law={path}: samples of {', '.join(names)} are not equally many.")
    # A resample that gave no law is null.
    found = np.all([np.isfinite(array) for array in arrays.values()], axis=0)
    if 2 * found.sum() < len(found):  # as `fit`, which then gives no interval
        return None
    return dataclasses.replace(law, **{name: array[found] for name, array in arrays.items()})
