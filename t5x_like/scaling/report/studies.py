"""Studies of one factor within a sweep: shapes, learning rates, sizes on the same tokens."""

import dataclasses
import re

import numpy as np
import pandas as pd

# Cells are of one size, for a study of shapes, where their N and D differ by less.
SAME_SIZE = 0.15
RATES_FOR_A_CURVE = 3
# A study of shapes varies the aspect ratio by at least this factor.
ASPECT_RANGE = 2.0
# A study of sizes has at least so many, over at least this factor, and D alike within a share.
SIZES_FOR_A_CURVE, SIZE_RANGE, SAME_TOKENS = 4, 4.0, 0.03
# A rise of the loss that counts as one where no seeds say what chance does, of the loss.
WITHOUT_SEEDS = 0.01
# In the name of a run: its rate, and its seed.
_RATE = re.compile(r"(^|-)learning_rate_-?[0-9.]+(e[-+]?[0-9]+)?|-s[0-9]+$")


def shape_study(runs: pd.DataFrame) -> pd.DataFrame:
    """Compares cells of different shape but equal size (Kaplan et al. 2020, section 3.1).

    Returns:
      a row for each: `name`, `variant`, `group` (a number), `parameters`,
      `parameters_without_embeddings`, `num_layers`, `embed_dim`, `aspect_ratio` (embed_dim over
      num_layers), `loss`, and `increase`, by which share the loss is above the lowest of the group.
    """
    columns = [
        *("name", "variant", "parameters", "parameters_without_embeddings"),
        *("num_layers", "embed_dim", "loss", "tokens", "gin_file"),
    ]
    rows = runs[columns].copy()
    rows["aspect_ratio"] = rows["embed_dim"] / rows["num_layers"]
    groups: list[pd.DataFrame] = []
    for _, of_variant in rows.groupby("variant", sort=False):
        left = of_variant.sort_values("parameters_without_embeddings")
        while len(left):
            first = left.iloc[0]
            near = np.log(left["parameters_without_embeddings"]) <= (
                np.log(first["parameters_without_embeddings"]) + SAME_SIZE
            )
            near &= np.abs(np.log(left["tokens"] / first["tokens"])) <= SAME_SIZE
            group, left = left[near], left[~near]
            aspects = group["aspect_ratio"]
            if aspects.nunique() >= 3 and aspects.max() >= ASPECT_RANGE * aspects.min():
                lowest = group.groupby("aspect_ratio")["loss"].mean().min()
                increase = group["loss"] / lowest - 1
                groups.append(group.assign(group=len(groups), increase=increase))
    if not groups:
        return rows.iloc[:0].assign(group=0, increase=0.0)
    return pd.concat(groups).sort_values(["group", "aspect_ratio"]).reset_index(drop=True)


def rate_study(runs: pd.DataFrame) -> pd.DataFrame:
    """Compares runs that differ in their learning rate and seed, and in nothing else.

    Returns:
      a row for each: `name`, `variant`, `group` (a number), `parameters`, `tokens`,
      `learning_rate`, `seed` and `loss`; groups with fewer than three different rates are left out.
    """
    columns = ["name", "variant", "parameters", "tokens", "learning_rate", "seed", "loss"]
    rows = runs[columns][runs["learning_rate"] > 0]
    rest = rows["name"].map(lambda name: _RATE.sub("", name))
    same = rows.groupby(["variant", "parameters", "tokens", rest], sort=False)
    studied = same["learning_rate"].transform("nunique") >= RATES_FOR_A_CURVE
    groups = same.ngroup()[studied].rank(method="dense").astype(int) - 1
    found = rows[studied].assign(group=groups)
    return found.sort_values(["group", "learning_rate"]).reset_index(drop=True)


def size_study(runs: pd.DataFrame) -> pd.DataFrame:
    """Compares runs of one variant on the same tokens that differ in their size.

    So double descent (Belkin et al. 2019; Nakkiran et al. 2020) is looked for, and sample
    efficiency (Kaplan et al. 2020, figure 2).

    Returns:
      a row for each: `name`, `variant`, `group` (a number), `parameters`, `tokens`, `loss`,
      `train_loss` (nats), `seed`. Runs with a budget are none of it: theirs is a study of compute.
    """
    columns = ["name", "variant", "parameters", "tokens", "loss", "train_loss", "seed"]
    rows = runs[columns][~np.isfinite(runs["budget"])]
    groups: list[pd.DataFrame] = []
    for _, of_variant in rows.groupby("variant", sort=False):
        left = of_variant.sort_values("tokens")
        while len(left):
            near = left["tokens"] <= left["tokens"].iloc[0] * (1 + SAME_TOKENS)
            group, left = left[near], left[~near]
            sizes = group["parameters"]
            wide = sizes.max() >= SIZE_RANGE * sizes.min()
            # A grid of N and D has some runs on the same tokens too, by chance.
            if sizes.nunique() >= SIZES_FOR_A_CURVE and wide and 2 * len(group) > len(of_variant):
                groups.append(group.assign(group=len(groups)))
    if not groups:
        return rows.iloc[:0].assign(group=0)
    return pd.concat(groups).sort_values(["group", "parameters", "seed"]).reset_index(drop=True)


@dataclasses.dataclass(frozen=True)
class SecondDescent:
    """A rise of the loss with the size of the model, and the fall after it.

    Attributes:
      before: the lowest mean loss of a smaller model, nats.
      peak: the highest mean loss between the two, nats.
      after: the lowest mean loss of a larger model, nats.
      at: N of the peak.
      certain: whether rise and fall are each beyond two standard errors over seeds.
    """

    before: float
    peak: float
    after: float
    at: float
    certain: bool


def second_descent(rows: pd.DataFrame) -> SecondDescent | None:
    """The largest peak of the mean loss over sizes; None where there is none.

    A peak counts from two standard errors of a difference on, pooled over sizes, and without seeds
    from a hundredth of the loss on.

    Args:
      rows: of one group of `size_study`.
    """
    losses = rows.groupby("parameters")["loss"].agg(["mean", "var", "count"])
    means, free = losses["mean"].to_numpy(), losses["count"].to_numpy() - 1
    best = 0.0
    found: tuple[float, float, float, float] | None = None
    for i in range(1, len(means) - 1):
        before, after = means[:i].min(), means[i + 1 :].min()
        if (height := means[i] - max(before, after)) > best:
            best = float(height)
            found = (float(before), float(means[i]), float(after), float(losses.index[i]))
    if found is None:
        return None
    if free.sum():
        variance = (free * losses["var"].fillna(0.0)).sum() / free.sum()
        least = 2 * np.sqrt(2 * variance / losses["count"].min())
    else:
        least = WITHOUT_SEEDS * means.min()
    if best <= least:
        return None
    before, peak, after, at = found
    return SecondDescent(before, peak, after, at, certain=bool(free.sum()))
