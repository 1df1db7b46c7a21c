"""What a report says first: one sentence with its interval, and the figure that shows it."""

import functools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from t5x_like.scaling.report import figures
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.conclusion import conclusion
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.plots import all_plots
from t5x_like.scaling.report.studies import second_descent, size_study
from t5x_like.scaling.report.sweep_runs import from_frames
from t5x_like.scaling.report.tables import all_tables


def analysed(sweeps, cells, curves=None, bootstrap=20):
    empty = sweeps.curves_of(cells.iloc[:0]).astype(dict.fromkeys(("flops", "loss"), float))
    runs = from_frames(cells, empty if curves is None else curves, name="made")
    return analyse(runs, bootstrap=bootstrap)


def isoflop(sweeps, variants=None, **more):
    return sweeps.isoflop_cells(variants, budgets=3, sizes=5, **more)


def parametric(sweeps):
    rng = np.random.default_rng(0)
    rows = []
    for n in (1e6, 4e6, 16e6):
        for ratio in (5, 20, 80, 320):
            loss = float(sweeps.law.loss(n, ratio * n)) * np.exp(0.001 * rng.standard_normal())
            rows.append(sweeps.cell("", n, ratio * n, loss))
    return pd.DataFrame(rows)


def settings(sweeps, means, seeds=3, deviation=0.01):
    """Runs of a study over seeds: losses of a setting are its mean and a deviation about it.

    The deviations are -1, 0 and 1, each setting's a seed later than the one's before.
    """
    rows = []
    for i, (name, mean) in enumerate(means.items()):
        for seed, away in zip(range(seeds), np.roll((-1.0, 0.0, 1.0), i), strict=True):
            row = sweeps.cell(name, 1e5, 1e6, mean + away * deviation, seed=seed)
            row |= {"name": f"{name}-base-s{seed}", "num_layers": np.nan, "budget": np.nan}
            rows.append(row)
    return pd.DataFrame(rows)


def one_size(sweeps, losses, seeds=(0,), noise=0.0):
    """Runs on the same tokens: {N: loss}."""
    rng = np.random.default_rng(0)
    rows = []
    for n, loss in losses.items():
        for seed in seeds:
            drawn = loss + noise * rng.standard_normal()
            row = sweeps.cell("", n, 2e6, drawn, seed=seed)
            rows.append({**row, "name": f"{n:.0f}-s{seed}"})
    return pd.DataFrame(rows)


HUMP = {1e3: 3.0, 4e3: 2.0, 16e3: 2.4, 64e3: 2.1, 256e3: 1.8, 1e6: 1.7}
KINDS = {
    "isoflop": isoflop,
    "parametric": parametric,
    "variants": lambda s: isoflop(
        s, {"base": s.law, "best": s.worth(2), "worse": s.worth(0.5), "same": s.law}
    ),
    "stages": lambda s: settings(s, {"all": 2.0, "adapters": 1.9}),
    "sizes": lambda s: one_size(s, HUMP, seeds=(0, 1)),
    "shapes": lambda s: s.shape_cells(),
}


@pytest.fixture(scope="module")
def analysis_of(sweeps):
    """An analysis of each kind, made once."""
    return functools.cache(lambda kind: analysed(sweeps, KINDS[kind](sweeps)))


def test_of_isoflop_curves_it_is_the_exponent_with_its_interval(analysis_of):
    analysis = analysis_of("isoflop")
    said = conclusion(analysis)
    fitted = analysis.fits["", "approach2"]
    low, high = fitted.intervals["a"]
    assert f"C^{fitted.parameters['a']:.3f}, 95% interval [{low:.3f}, {high:.3f}]" in said.sentence
    assert "by approach 2 over 15 runs from 10¹⁶ to 10¹⁸ FLOPs" in said.sentence
    assert (said.plot, said.figure) == ("optimum-parameters", "optimum")


def test_of_a_parametric_grid_it_is_the_exponent_of_approach_3(analysis_of):
    analysis = analysis_of("parametric")
    said = conclusion(analysis)
    assert f"C^{analysis.fits['', 'approach3'].parameters['a']:.3f}" in said.sentence
    assert "95% interval [" in said.sentence and "by approach 3 over 12 runs" in said.sentence


@pytest.mark.slow
def test_a_law_that_the_runs_do_not_determine_is_no_conclusion(sweeps):
    """D is 20 N in all runs, so that N and D could change places."""
    losses = {n: float(sweeps.law.loss(n, 20 * n)) for n in np.geomspace(1e6, 1e8, 9)}
    cells = pd.DataFrame([sweeps.cell("", n, 20 * n, loss) for n, loss in losses.items()])
    sentence = conclusion(analysed(sweeps, cells, bootstrap=20)).sentence
    assert "do not determine how the best N grows" in sentence


@pytest.mark.slow
def test_of_one_variant_it_is_its_multiplier_and_a_1_within_it_is_no_difference(sweeps):
    better = {"serial": sweeps.law, "parallel": sweeps.worth(1.5)}
    said = conclusion(analysed(sweeps, isoflop(sweeps, better)))
    assert said.sentence.startswith("parallel is worth 1.")
    assert "times its compute against serial at 10¹⁷ FLOPs, 95% interval [1." in said.sentence
    assert "no difference" not in said.sentence
    assert (said.plot, said.figure) == ("variants-multiplier", "variants")
    same = {"serial": sweeps.law, "parallel": sweeps.law}
    assert (
        "contains 1, so the runs show no difference"
        in conclusion(analysed(sweeps, isoflop(sweeps, same, noise=0.004))).sentence
    )


@pytest.mark.slow
def test_of_several_variants_it_is_the_best_and_which_cannot_be_told_apart(analysis_of):
    sentence = conclusion(analysis_of("variants")).sentence
    assert sentence.startswith("best is worth ")
    assert "best of 3 variants save compute; worse cost more; same cannot be told" in sentence


def test_of_settings_over_seeds_it_is_the_best_with_students_interval_of_its_lead(sweeps):
    """Of two settings with the same seeds it is that of a paired t-test."""
    cells = settings(sweeps, {"all": 2.0, "adapters": 1.9})
    said = conclusion(analysed(sweeps, cells))
    whole, adapters = (cells.loc[cells["variant"] == name, "loss"] for name in ("all", "adapters"))
    low, high = stats.ttest_rel(whole, adapters).confidence_interval()
    assert low == pytest.approx(0.1 - 4.3027 * 0.01, rel=1e-4)
    assert said.sentence == (
        "Of 2 settings adapters is best by validation loss (nats a token): 1.9 ± 0.01 over 3 "
        f"seeds, 0.1 below all, 95% interval [{low:.3g}, {high:.3g}]. No other "
        "is within two standard deviations of single runs."
    )
    assert (said.plot, said.figure) == ("comparison", "comparison")
    tied = conclusion(analysed(sweeps, settings(sweeps, {"all": 1.91, "adapters": 1.9})))
    assert tied.sentence.endswith("Within two standard deviations of single runs: all.")


def test_without_the_same_seeds_the_interval_is_that_of_independent_runs(sweeps):
    """Deviations .01 of three seeds each; t of 4 degrees of freedom is 2.776."""
    cells = settings(sweeps, {"all": 2.0, "adapters": 1.9})
    cells["seed"] += 3.0 * (cells["variant"] == "adapters")
    cells["name"] = [f"{row.variant}-base-s{row.seed:.0f}" for row in cells.itertuples()]
    reach = 2.7764 * 0.01 * np.sqrt(2 / 3)
    interval = f"95% interval [{0.1 - reach:.3g}, {0.1 + reach:.3g}]"
    assert interval in conclusion(analysed(sweeps, cells)).sentence


def test_of_variants_of_one_size_it_is_on_what_share_of_the_tokens_they_come_as_far(sweeps):
    """Curves of power laws with exponent .1: a loss a tenth lower is worth 1.1^10 = 2.59 times."""
    cells = settings(sweeps, {"dense": 2.0, "experts": 2.0 / 1.1}, deviation=1e-6)
    cells = cells.assign(num_layers=2)
    rows = []
    for cell in cells.to_dict("records"):
        for tokens in np.geomspace(1e3, 1e6, 200):
            loss = cell["loss"] * (tokens / 1e6) ** -0.1
            row = {key: cell[key] for key in ("name", "variant", "parameters")}
            rows.append(
                {**row, "step": tokens / 1e3, "tokens": tokens, "flops": tokens, "loss": loss}
            )
    sentence = conclusion(analysed(sweeps, cells, pd.DataFrame(rows))).sentence
    assert "reached by experts on 0.39 ± 0.00 of its tokens." in sentence


def test_of_shapes_it_is_how_little_they_matter(analysis_of):
    said = conclusion(analysis_of("shapes"))
    assert said.sentence.startswith("At fixed N the loss differs by up to ")
    assert "single runs: no interval" in said.sentence and said.plot == "shapes"


def test_a_second_descent_is_told_with_its_peak(sweeps):
    """By hand: 2.0 at 4 thousand, 2.4 at 16 thousand, 1.7 at the end."""
    cells = one_size(sweeps, HUMP)
    found = second_descent(size_study(cells))
    assert (found.before, found.peak, found.after, found.at) == (2.0, 2.4, 1.7, 16e3)
    assert not found.certain
    said = conclusion(analysed(sweeps, cells))
    assert "lowest, 1.7000 nats, at N 1M" in said.sentence and said.plot == "sizes"
    assert "rises from 2.0000 to 2.4000 at N 16k and falls again to 1.7000" in said.sentence
    assert "without seeds to be sure" in said.sentence
    sure = second_descent(size_study(one_size(sweeps, HUMP, seeds=(0, 1, 2), noise=0.01)))
    assert sure.certain and sure.at == 16e3


def test_noise_is_no_second_descent(sweeps):
    falling = {n: 3.0 * n**-0.05 for n in HUMP}
    noisy = one_size(sweeps, falling, seeds=(0, 1, 2), noise=0.3)
    assert second_descent(size_study(noisy)) is None
    assert second_descent(size_study(one_size(sweeps, falling))) is None
    said = conclusion(analysed(sweeps, noisy))
    assert "no second descent" in said.sentence and "standard error over seeds" in said.sentence


def test_sizes_on_the_same_tokens_have_a_law_of_steps_and_the_tokens_to_losses(sweeps):
    losses = {n: float(sweeps.law.loss(n, 2e6)) for n in (1e5, 2e5, 4e5, 8e5)}
    cells = one_size(sweeps, losses).assign(batch_tokens=2e4)
    analysis = analysed(sweeps, cells, sweeps.curves_of(cells), bootstrap=10)
    assert 0 < analysis.steps_law.law.alpha_N < 1
    assert analysis.steps_law.critical is None
    sentence = conclusion(analysis).sentence
    assert "L(N, S) = " in sentence and "critical batch" not in sentence
    scale = 5e5 / sweeps.curves_of(cells)["loss"] ** 3
    noisy = sweeps.curves_of(cells).assign(gradient_noise_scale=scale)
    measured = analysed(sweeps, cells, noisy, bootstrap=0)
    assert measured.steps_law.critical.alpha_B == pytest.approx(1 / 3)
    assert "the critical batch is 500k tokens / L^3.00" in conclusion(measured).sentence
    reached = analysis.efficiency
    assert set(reached["name"]) == set(cells["name"])
    worst = reached[reached["target"] == reached["target"].max()]
    assert len(worst) == 4 and worst.sort_values("parameters")["tokens"].is_monotonic_decreasing
    assert not all_tables(analysis)["efficiency"].empty


def test_without_a_finished_run_there_is_no_conclusion_and_no_figure(sweeps):
    cells = sweeps.unfinished(isoflop(sweeps), done=0)
    said = conclusion(analysed(sweeps, cells))
    assert said.sentence.startswith("No conclusion yet: 0 of 15 runs are done")
    assert said.plot == said.figure == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_begins_with_sentence_figure_and_warnings_before_any_table(analysis_of, kind):
    analysis = analysis_of(kind)
    said = conclusion(analysis)
    assert said.plot in [plot.name for plot in all_plots(analysis)]
    assert f"{said.figure}.png" in figures.FILES
    text = page_text(analysis, all_tables(analysis))
    text = text[text.index("<main>") : text.index("</main>")]
    order = [text.index('<p class="conclusion">'), text.index(f'id="{said.plot}"')]
    if any(note.warning for note in analysis.notes):
        order.append(text.index("<h2>Warnings"))
    order.append(text.index("<table"))
    assert order == sorted(order)
    assert text.count("<figure>") == len(all_plots(analysis))  # each once
    assert text.index("<figure>") < order[1] < text.index("</figure>")


def test_many_warnings_are_folded_below_the_first(sweeps):
    laws = {f"v{i}": sweeps.law for i in range(9)}
    cells = sweeps.isoflop_cells(laws, budgets=2, sizes=3)
    analysis = analysed(sweeps, cells, bootstrap=0)
    doubts = sum(note.warning for note in analysis.notes)
    assert doubts > 8
    text = page_text(analysis, all_tables(analysis))
    assert f"<details><summary>{doubts - 6} more</summary>" in text
