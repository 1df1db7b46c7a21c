"""What the settings of a sweep reached, over its seeds, and which cannot be told from the best."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from t5x_like.scaling.metric_kinds import is_count, is_of_loss
from t5x_like.scaling.published_tables import PublishedStudy
from t5x_like.scaling.sweeps.grids import ONLY_POINT

COLUMNS = (
    *("task", "split", "metric", "setting", "variant", "seeds", "mean", "deviation"),
    *("pooled_deviation", "best", "tied", "block_deviation", "block_freedom"),
    *("against", "difference", "reach"),
)
VALIDATION = "validation"
# Raffel et al. 2020, section 3.3: what is within two standard deviations of the best is a tie.
_DEVIATIONS = 2.0


def compared(
    cells: pd.DataFrame, measured: pd.DataFrame, baseline: str | None = None
) -> pd.DataFrame:
    """The mean of each setting over its seeds, and whether it ties with the best.

    A tie is a mean within two standard deviations of the best mean, of single runs as in T5's
    tables (Raffel et al. 2020). The deviation is pooled over all settings of two seeds or more:
    where only the baseline has them, it is the baseline's, as there.

    Args:
      cells: as `results.sweep_results`, of finished runs.
      measured: as `downstream.measured_table`; may be empty.
      baseline: the variant that others are held against, if not the first.

    Returns:
      A frame of `COLUMNS`, a row a metric and setting: the validation loss, then the tasks', but
      for those that say how a model works (`metric_kinds.is_count`).
      `deviation` is NaN of one seed; `pooled_deviation` where every setting has one, and then
      only the best is `tied`. `block_deviation` is that of a run about the mean of its setting
      and what its seed adds to all settings, with `block_freedom` degrees of freedom: seeds share
      initial values, order of data and what was trained before, so that differences between
      settings scatter less than runs do (a randomized block design; Fisher 1935). NaN and 0 unless
      all settings have the same two seeds or more. `difference` is to the mean of the baseline's
      first setting, `against`, with `interval_reach` to either side. Empty of fewer than two
      settings.
    """
    setting_of = {row["name"]: _setting(row) for row in cells.to_dict("records")}
    seed_of = dict(zip(cells["name"], cells["seed"], strict=True))
    if len(set(setting_of.values())) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    losses = cells[["name", "variant"]].assign(
        task=VALIDATION, split=VALIDATION, metric="loss", value=cells["loss"]
    )
    wanted = ["name", "variant", "task", "split", "metric", "value"]
    tasks = measured[measured["name"].isin(list(setting_of))] if len(measured) else losses.iloc[:0]
    values = pd.concat([losses[wanted], tasks[wanted]], ignore_index=True)
    values = values.assign(
        setting=values["name"].map(setting_of), seed=values["name"].map(seed_of)
    ).dropna(subset="value")
    values = values[~values["metric"].map(is_count)]
    parts = [
        _of_metric(rows, str(keys[2]), baseline)
        for keys, rows in values.groupby(["task", "split", "metric"], sort=False)
    ]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _of_metric(values: pd.DataFrame, metric: str, baseline: str | None) -> pd.DataFrame:
    shared = ["task", "split", "metric", "setting", "variant"]
    grouped = values.groupby(shared, sort=False)["value"]
    rows = grouped.agg(seeds="count", mean="mean", deviation="std").reset_index()
    free = rows["seeds"] - 1
    squares = (free * rows["deviation"].fillna(0.0) ** 2).sum()
    pooled = (squares / free.sum()) ** 0.5 if free.sum() else float("nan")
    best = rows["mean"].min() if is_of_loss(metric) else rows["mean"].max()
    away = (rows["mean"] - best).abs()
    deviation, freedom = _within_blocks(values)
    rows = rows.assign(
        pooled_deviation=pooled,
        best=away == 0,
        tied=(away == 0) | (away <= _DEVIATIONS * pooled),
        block_deviation=deviation,
        block_freedom=freedom,
    )
    own = rows[rows["variant"] == baseline]
    first = (own if len(own) else rows).iloc[0]
    return rows.assign(
        against=first["setting"],
        difference=rows["mean"] - first["mean"],
        reach=[
            float("nan") if row["setting"] == first["setting"] else interval_reach(row, first, rows)
            for _, row in rows.iterrows()
        ],
    )


def interval_reach(row: Mapping[str, Any], other: Mapping[str, Any], rows: pd.DataFrame) -> float:
    """How far the 95% interval of the difference of two settings reaches to either side.

    Student's, over the same seeds where all settings have the same, else of independent runs.

    Args:
      row: one setting.
      other: another.
      rows: all settings of their metric.

    Returns:
      NaN of single runs.
    """
    free, deviation = int((rows["seeds"] - 1).sum()), row["pooled_deviation"]
    if row["block_freedom"]:
        free, deviation = int(row["block_freedom"]), row["block_deviation"]
    if not free or not np.isfinite(deviation):
        return float("nan")
    from scipy import stats

    error = deviation * np.sqrt(1 / row["seeds"] + 1 / other["seeds"])
    return float(stats.t.ppf(0.975, free) * error)


def _within_blocks(values: pd.DataFrame) -> tuple[float, int]:
    """The deviation that settings' and seeds' means leave, and its degrees of freedom."""
    grid = values.pivot_table(index="setting", columns="seed", values="value")
    freedom = (grid.shape[0] - 1) * (grid.shape[1] - 1)
    if not freedom or grid.isna().to_numpy().any():
        return float("nan"), 0
    cells = grid.to_numpy()
    rest = cells - cells.mean(1, keepdims=True) - cells.mean(0, keepdims=True) + cells.mean()
    return float(np.sqrt((rest**2).sum() / freedom)), freedom


def _setting(cell: dict[str, object]) -> str:
    """The name of a run without its seed, and without that of the only point of a grid."""
    name = str(cell["name"]).removesuffix(f"-s{float(str(cell['seed'])):.0f}")
    return name.removesuffix(f"-{ONLY_POINT}")


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A row a setting, a column a metric: "80.88 ± 0.34 *", where * marks the best and its ties.

    After the validation loss stands what it is less that of the first setting, with the 95%
    interval. Of tasks, the metrics that are none of the loss; where several splits were measured,
    each one's.
    """
    shown = table[(table["task"] == VALIDATION) | ~table["metric"].map(is_of_loss)]
    splits = shown.groupby("task")["split"].nunique()
    seeds = shown.groupby("setting", sort=False)["seeds"].max()
    found = pd.DataFrame({"setting": seeds.index, "seeds": seeds.to_numpy()})
    for (task, split, metric), rows in shown.groupby(["task", "split", "metric"], sort=False):
        texts = {row["setting"]: _text(row) for row in rows.to_dict("records")}
        of_split = f" {split}" if splits[task] > 1 else ""
        found[f"{task}{of_split} {metric}"] = [texts.get(name, "–") for name in found["setting"]]
        if task == VALIDATION:
            away = {row["setting"]: _away(row) for row in rows.to_dict("records")}
            found[f"against {rows['against'].iloc[0]}"] = found["setting"].map(away)
    return found


def beside(table: pd.DataFrame, study: PublishedStudy) -> pd.DataFrame:
    """`wide` with the row that a paper prints of each setting's variant, "–" where it prints none.

    The paper's scores are marked by its own deviations and best, and ours by ours: the two are of
    other tasks and sizes, and only their order can be held against one another.
    """
    found = wide(table)
    variants = table.drop_duplicates("setting").set_index("setting")["variant"]
    printed = [study.of(str(variants[name])) for name in found["setting"]]
    found["row of the paper"] = ["–" if row is None else row.row for row in printed]
    for column in study.columns:
        found[column] = [
            "–" if row is None else f"{row.scores[column]:.2f}{' *' if column in row.tied else ''}"
            for row in printed
        ]
    return found


def _away(row: Mapping[str, Any]) -> str:
    if row["setting"] == row["against"]:
        return "–"
    return f"{row['difference']:+.3g}{_reach(row)}"


def _reach(row: Mapping[str, Any]) -> str:
    return f" ± {row['reach']:.2g}" if row["reach"] == row["reach"] else ""


def _text(row: dict[str, object]) -> str:
    spread = f" ± {row['deviation']:.3g}" if row["deviation"] == row["deviation"] else ""
    return f"{row['mean']:.4g}{spread}{' *' if row['tied'] else ''}"
