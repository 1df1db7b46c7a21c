"""What runs were measured on tasks: intervals over examples, averages, errors as laws of loss."""

import dataclasses
import math

import numpy as np
import pandas as pd

from t5x_like.scaling.metric_kinds import is_count, is_of_loss

# Two-sided 95% of a normal distribution, which a mean over examples has.
_Z = 1.959964
# Fewest runs for the three coefficients of a law.
RUNS_FOR_A_LAW = 4
# Beyond these rates a law is a line, or a step, in the losses of the runs.
_RATES = np.geomspace(0.02, 20.0, 400)
_ACCURACY = "accuracy"
AVERAGE = "average"
COLUMNS = (
    *("name", "variant", "task", "split", "metric", "value", "low", "high", "standard_error"),
    *("rows", "parameters", "tokens", "flops", "loss", "headline"),
)


@dataclasses.dataclass(frozen=True)
class ErrorLaw:
    """The error on a task as a law of loss, `Err(L) = epsilon - k exp(-gamma L)`.

    Gadre et al. 2024 (Language models scale reliably with over-training and on downstream tasks),
    equation 5. Errors are in percent.

    Attributes:
      task: its name, or `AVERAGE`.
      split: of it.
      metric: the accuracy whose error it is, 100 less it.
      epsilon: the error of a model that knows nothing.
      k: how far the error would fall at a loss of 0.
      gamma: the rate, for each nat.
      runs: how many it was fitted to.
      residual: the root of the mean square of what is left, in percent.
    """

    task: str
    split: str
    metric: str
    epsilon: float
    k: float
    gamma: float
    runs: int
    residual: float

    def error(self, loss: np.ndarray) -> np.ndarray:
        """In percent."""
        return self.epsilon - self.k * np.exp(-self.gamma * loss)


def measured_table(measured: pd.DataFrame) -> pd.DataFrame:
    """The values with 95% intervals over examples, and averages over tasks.

    Args:
      measured: as `results.sweep_measurements`.

    Returns:
      A frame of `COLUMNS`; `headline` marks the metric that stands for a task: the first that has a
      standard error and is none of the loss, or else the first that is none, or the loss; how a
      model works (`metric_kinds.is_count`) never does. Where
      several tasks have accuracies for headlines, the task `average` has their mean for every run
      that has all of them.
    """
    if measured.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    frame = measured.copy()
    frame["headline"] = False
    for _, rows in frame.groupby(["task", "split"], sort=False):
        metric = _headline(rows)
        frame.loc[rows.index[rows["metric"] == metric], "headline"] = True
    frame = pd.concat([frame, _averages(frame)], ignore_index=True)
    reach = _Z * frame["standard_error"]
    frame["low"], frame["high"] = frame["value"] - reach, frame["value"] + reach
    return frame[list(COLUMNS)]


def _headline(rows: pd.DataFrame) -> str:
    plain = rows[~rows["metric"].str.contains("/")]  # of all examples, not of a part
    if plain.empty:
        plain = rows
    of_model = plain["metric"].map(is_count)
    plain = plain if of_model.all() else plain[~of_model]
    task = plain[~plain["metric"].map(is_of_loss)]
    certain = task[np.isfinite(task["standard_error"])]
    chosen = next(part for part in (certain, task, plain) if len(part))
    return str(chosen["metric"].iloc[0])


def _is_accuracy(metric: str) -> bool:
    return _ACCURACY in metric and "/" not in metric


def _averages(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean accuracy of each run over all tasks; tasks are independent, and so their errors."""
    chosen = frame[frame["headline"] & frame["metric"].map(_is_accuracy)]
    tasks = set(zip(chosen["task"], chosen["split"], strict=True))
    rows = []
    for _, group in chosen.groupby("name", sort=False):
        if len(tasks) < 2 or len(group) < len(tasks):
            continue
        errors = group["standard_error"].to_numpy(np.float64)
        rows.append(
            {
                **group.iloc[0].to_dict(),
                "task": AVERAGE,
                "split": f"{len(tasks)} tasks",
                "metric": _ACCURACY,
                "rows": group["rows"].sum(),
                "value": group["value"].mean(),
                "standard_error": math.sqrt(float((errors**2).sum())) / len(group),
            }
        )
    return pd.DataFrame(rows, columns=frame.columns)


def error_laws(table: pd.DataFrame) -> list[ErrorLaw]:
    """The law of each task whose headline is an accuracy, and of their average, where it is known.

    Args:
      table: of `measured_table`.
    """
    laws = []
    rows = table[table["headline"].astype(bool) & table["metric"].map(_is_accuracy)]
    rows = rows[np.isfinite(rows["loss"].astype(float)) & np.isfinite(rows["value"].astype(float))]
    for (task, split, metric), group in rows.groupby(["task", "split", "metric"], sort=False):
        found = fit_errors(
            group["loss"].to_numpy(np.float64),
            100 - group["value"].to_numpy(np.float64),
            group["standard_error"].to_numpy(np.float64),
        )
        if found is not None:
            laws.append(ErrorLaw(str(task), str(split), str(metric), *found))
    return laws


def fit_errors(
    loss: np.ndarray, error: np.ndarray, standard_error: np.ndarray
) -> tuple[float, float, float, int, float] | None:
    """Fits epsilon, k and gamma by least squares, weighted where all standard errors are above 0.

    For each gamma the others are linear (variable projection).

    Returns:
      epsilon, k, gamma, the number of runs and the residual; None where there are too few losses,
      the error does not rise with the loss, or no rate is better than a line or a step.
    """
    if len(np.unique(loss)) < RUNS_FOR_A_LAW:
        return None
    certain = np.isfinite(standard_error).all() and (standard_error > 0).all()
    weights = 1 / standard_error if certain else np.ones_like(error)

    def fitted(gamma: float) -> tuple[float, np.ndarray]:
        columns = np.stack([np.ones_like(loss), -np.exp(-gamma * loss)], axis=1)
        found, *_ = np.linalg.lstsq(columns * weights[:, None], error * weights, rcond=None)
        left = error - columns @ found
        return float(((left * weights) ** 2).sum()), found

    best = int(np.argmin([fitted(gamma)[0] for gamma in _RATES]))
    if best in (0, len(_RATES) - 1):
        return None
    low, high = np.log(_RATES[best - 1]), np.log(_RATES[best + 1])
    for _ in range(60):  # golden section
        a, b = high - 0.618034 * (high - low), low + 0.618034 * (high - low)
        if fitted(math.exp(a))[0] < fitted(math.exp(b))[0]:
            high = b
        else:
            low = a
    gamma = math.exp((low + high) / 2)
    epsilon, k = fitted(gamma)[1]
    if k <= 0:
        return None
    left = error - (epsilon - k * np.exp(-gamma * loss))
    return float(epsilon), float(k), gamma, len(loss), float(np.sqrt(np.mean(left**2)))
