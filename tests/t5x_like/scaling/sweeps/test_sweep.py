"""A sweep in gin becomes runs: which, how large, how long."""

import dataclasses
import sys

import pytest

from t5x_like import config
from t5x_like.errors import UserError
from t5x_like.scaling.family import Family, gin_pairs, model_of
from t5x_like.scaling.recipe import Recipe
from t5x_like.scaling.sweeps import grids
from t5x_like.scaling.sweeps.learning_rate_search import LearningRateSearch
from t5x_like.scaling.sweeps.sweep import (
    MatchedCosine,
    StableThenDecay,
    Stage,
    Sweep,
    Variant,
)

RECIPE = Recipe(
    batch_coefficient=1024, batch_exponent=0, learning_rate_coefficient=0.01,
    learning_rate_exponent=0,
)  # fmt: skip
ISOFLOP = grids.IsoFLOP(budgets=[1e11, 4e11], sizes=[40e3, 100e3])


def sweep(**changes):
    return Sweep(
        **{
            "name": "tried",
            "family": "llama",
            "base": ["sweeps/bytes.gin"],
            "grid": ISOFLOP,
            "recipe": RECIPE,
            **changes,
        }
    )


@pytest.mark.slow
def test_isoflop_cells_have_their_budget_and_sizes_follow_it():
    cells = sweep().cells()
    assert [cell.budget for cell in cells] == [1e11, 1e11, 4e11, 4e11]
    for cell in cells:
        assert 6 * cell.size.parameters * cell.training.tokens == cell.flops
        assert cell.flops == pytest.approx(cell.budget, rel=0.01)
    # The sizes wanted for four times the budget are twice those of the first.
    assert cells[2].size.parameters == pytest.approx(80e3, rel=0.2)


def test_exact_flops_are_the_models_own():
    """LLaMA, untied: matrices 2 FLOPs forward and 4 backward a token, attention in full."""
    cell = sweep(grid=grids.IsoFLOP([1e11], [40e3])).cells()[0]
    d, layers, mlp = cell.shape.embed_dim, cell.shape.num_layers, cell.shape.mlp_dim
    matrices = layers * (4 * d * d + 3 * d * mlp) + 384 * d
    attention = layers * 2 * 128 * d
    assert cell.model_flops == 6 * (matrices + attention) * cell.training.tokens


def test_an_exact_budget_is_of_the_models_own_flops():
    """T5 meets a byte with half of its parameters, and may read more of them than by 6ND."""
    changes = {"family": "t5_1_1", "base": ["sweeps/byte_prefixes.gin"]}
    by_rule, exact = (
        sweep(grid=grids.IsoFLOP([1e11], [60e3], exact=exact), **changes).cells()[0]
        for exact in (False, True)
    )
    assert by_rule.shape == exact.shape and not by_rule.exact
    assert exact.flops == exact.model_flops == pytest.approx(1e11, rel=0.01)
    assert by_rule.flops == pytest.approx(1e11, rel=0.01)
    share = by_rule.model_flops / by_rule.flops
    assert 0.4 < share < 0.7
    assert exact.training.tokens == pytest.approx(by_rule.training.tokens / share, rel=0.02)


def test_variants_of_a_prefix_tournament_read_the_inputs_as_they_say():
    with config.isolated():
        config.parse(["sweeps/tournament_prefix_cpu.gin"], [("SWEEP_DIR", "none")])
        made = config.macro("SWEEP")
    found = {}
    for variant in made.variants:
        family = Family(variant.family, tuple(made.base), gin_pairs(variant.bindings))
        found[variant.name] = model_of(family, made.recipe.shape_of_width(family, 32)).batch_format
    decoders = {"gpt1": "causal", "llama": "causal", "lamda_causal": "causal"}
    decoders["lamda_prefix"] = "prefix"
    for name, batch_format in found.items():
        seen = decoders.get(name)
        assert batch_format == (f"{seen}_language_model" if seen else "encoder_decoder"), name


def test_parametric_cells_have_their_tokens_per_parameter():
    cells = sweep(grid=grids.Parametric([50e3], [5, 20])).cells()
    ratios = [cell.training.tokens / cell.size.parameters for cell in cells]
    assert ratios == pytest.approx([5, 20], rel=0.01)
    assert all(cell.budget is None for cell in cells)


def test_sizes_differ_on_the_same_tokens():
    cells = sweep(grid=grids.Sizes([20e3, 50e3, 120e3], 3e5)).cells()
    assert {cell.training.tokens for cell in cells} == {293 * 1024} and round(3e5 / 1024) == 293
    sizes = [cell.size.parameters for cell in cells]
    assert sizes == sorted(sizes) and sizes[-1] > 4 * sizes[0]
    assert all(cell.budget is None for cell in cells)
    with pytest.raises(UserError, match="tokens hold 0: all must be numbers above 0"):
        grids.Sizes([20e3], 0)


@pytest.mark.slow
def test_depths_differ_at_one_size():
    cells = sweep(grid=grids.Depths(150e3, [1, 2, 6], 3e5)).cells()
    assert [cell.shape.num_layers for cell in cells] == [1, 2, 6]
    assert all(0.7 < cell.size.parameters / 150e3 < 1.4 for cell in cells)


def test_stable_runs_are_branched_into_short_decays():
    """20% of 5 and of 10 tokens a parameter beside the whole of 20: 23/35 of three runs' cost."""
    whole = sweep(grid=grids.Parametric([50e3], [5, 10, 20])).cells()
    cells = sweep(grid=grids.Parametric([50e3], [5, 10, 20]), schedule=StableThenDecay(0.2)).cells()
    short, middle, long = cells
    assert long.stem is None and short.stem.cell == middle.stem.cell == long.name
    for cell in (short, middle):
        assert cell.stem.step == cell.training.steps - cell.bindings["DECAY_STEPS"]
        assert cell.bindings["DECAY_STEPS"] == round(0.2 * cell.training.steps)
    assert long.bindings["CHECKPOINT_STEPS"] == (short.stem.step, middle.stem.step)
    assert len({cell.training.learning_rate for cell in cells}) == 1
    ratio = sum(cell.cost for cell in cells) / sum(cell.cost for cell in whole)
    assert ratio == pytest.approx(23 / 35, rel=0.02)


def test_each_budget_may_have_sizes_of_its_own():
    grown = sweep(grid=grids.IsoFLOP([1e11, 4e11], [40e3])).cells()
    listed = sweep(grid=grids.IsoFLOP([1e11, 4e11], [[40e3], [80e3, 40e3]])).cells()
    assert [cell.name for cell in listed[:2]] == [cell.name for cell in grown]
    assert listed[2].shape == listed[0].shape and listed[2].budget == 4e11
    assert len(listed) == 3


@pytest.mark.slow
def test_each_variant_has_every_point_and_its_own_gin_files():
    variants = [
        Variant("serial", ["sweeps/variants/serial.gin"]),
        Variant("parallel", ["sweeps/variants/parallel.gin"]),
    ]
    grid = grids.IsoFLOP(budgets=[1e11], sizes=[40e3, 100e3])
    cells = sweep(family="palm", grid=grid, variants=variants).cells({"parallel": [(1e11, 2.0)]})
    assert [cell.variant for cell in cells] == ["serial"] * 2 + ["parallel"] * 2
    assert "sweeps/variants/serial.gin" in cells[0].files
    assert cells[0].training.learning_rate == 0.01
    assert cells[2].training.learning_rate == 0.02


def test_seeds_multiply_and_are_named():
    cells = sweep(seeds=[0, 1]).cells()
    assert [cell.seed for cell in cells] == [0, 1] * 4 and cells[1].name.endswith("-s1")


@pytest.mark.parametrize("where", ["bindings", "variants", "stages"])
@pytest.mark.parametrize("bound", [{"BATCH_SIZE": 32}, {"LEARNING_RATE": 0.05}, {"SEED": 3}])
def test_what_is_planned_of_each_run_is_not_bound_beside_the_plan(where, bound):
    """The record of the run would have the one, and its gin file the other."""
    changes = {
        "bindings": bound,
        "variants": [Variant("a"), Variant("b", bindings=bound)],
        "stages": [Stage("first", bindings=bound), Stage("second", bindings={"TRAIN_STEPS": 9})],
    }
    with pytest.raises(UserError, match=f"set {next(iter(bound))}, which the sweep plans"):
        sweep(**{where: changes[where]}).stage_cells()


def test_small_budgets_may_have_more_of_the_seeds():
    grid = grids.IsoFLOP([1e11, 4e11], [[40e3], [40e3]], num_seeds=[3, 1])
    cells = sweep(seeds=[5, 6, 7], grid=grid).cells()
    assert [(cell.budget, cell.seed) for cell in cells] == [
        (1e11, 5), (1e11, 6), (1e11, 7), (4e11, 5),
    ]  # fmt: skip
    assert len({cell.name for cell in cells}) == 4


def test_any_gin_bindings_can_be_a_grid(tmp_path):
    (tmp_path / "base.gin").write_text(
        "include 'models/gpt2/tiny.gin'\ninclude 'sweeps/bytes.gin'\n"
        "TRAIN_STEPS = 4\nBATCH_SIZE = 2\nWARMUP_STEPS = 1\n"
    )
    grid = grids.Product({"LEARNING_RATE": [1e-3, 1e-2], "optimizers.muon.weight_decay": [0.0]})
    cells = sweep(base=[str(tmp_path / "base.gin")], grid=grid).cells()
    assert [cell.training.learning_rate for cell in cells] == [1e-3, 1e-2]
    assert [cell.training.tokens for cell in cells] == [4 * 2 * 128] * 2
    (tmp_path / "cell.gin").write_text(cells[1].gin_text("tried", tmp_path))
    with config.isolated():
        config.parse([str(tmp_path / "cell.gin")])
        assert config.macro("LEARNING_RATE") == 1e-2
        assert config.macro("MODEL_DIR") == str(tmp_path / "cells" / cells[1].name)
        assert config.macro("OPTIMIZER").schedule.peak == 1e-2


def test_no_name_or_value_adds_a_statement_to_a_cells_gin_file(tmp_path):
    changes = {"MIXTURE_OR_TASK_NAME": "@f()\nSEED = 7", "NOTE": "20"}
    cell = sweep(bindings=changes).cells()[0]
    directory = tmp_path / "sweep\nSEED = 7"
    text = cell.gin_text("tried\nSEED = 7", directory)
    with config.isolated():
        config.parse([config.GinText("cell.gin", text)])
        assert config.macro("SEED") == 0
        assert {name: config.macro(name) for name in changes} == changes
        assert config.macro("MODEL_DIR") == str(directory / "cells" / cell.name)


@pytest.mark.slow
def test_a_cells_gin_file_builds_the_model_that_was_planned(tmp_path):
    variant = Variant("gelu", ["sweeps/variants/gelu.gin"])
    for cell in sweep(family="palm", variants=[variant]).cells():
        path = tmp_path / f"{cell.name}.gin"
        path.write_text(cell.gin_text("tried", tmp_path))
        with config.isolated():
            config.parse([str(path)])
            assert config.macro("MODEL").parameter_count() == cell.size.parameters
            assert config.macro("TRAIN_STEPS") == cell.training.steps


def test_the_rate_is_the_lowest_point_of_a_parabola():
    search = LearningRateSearch([1e11], [4e4], factors=[0.5, 1.0, 2.0, 4.0])
    # (ln f - ln 1.5)^2 has its minimum at 1.5.
    losses = [1 + (x - 0.4054651) ** 2 for x in (-0.6931472, 0.0, 0.6931472, 1.3862944)]
    assert search.best(losses) == pytest.approx(1.5, rel=1e-3)
    assert search.best([3.0, 2.0, 1.0, float("nan")]) == 2.0  # beside a run that diverged
    with pytest.raises(UserError, match="every run of the learning rate search diverged"):
        search.best([float("nan")] * 4)


def test_the_search_trains_a_model_of_each_budget_with_each_factor():
    search = LearningRateSearch([1e11, 4e11], [5e4, 1e5], [0.5, 1, 2])
    cells = sweep(learning_rate_search=search).search_cells()
    assert [cell.training.learning_rate for cell in cells] == [0.005, 0.01, 0.02] * 2
    assert [cell.name for cell in cells][::3] == ["rate-c1e11-x0.5", "rate-c4e11-x0.5"]
    for cell, budget in zip(cells, [1e11] * 3 + [4e11] * 3, strict=True):
        assert cell.flops == pytest.approx(budget, rel=0.01)
    assert len({cell.size for cell in cells[:3]}) == len({cell.size for cell in cells[3:]}) == 1
    best, advice = search.best_factors(cells, [2.0, 1.0, 2.0, 1.0, 2.0, 3.0])
    assert best == [(cells[0].six_n_d, 1.0), (cells[3].six_n_d, 0.5)]
    assert advice == "; at the end of the range: x0.5, give factors beyond"
    _, both = search.best_factors(cells, [3.0, 2.0, 1.0, 1.0, 2.0, 3.0])
    assert both == "; at the end of the range: x2.0, x0.5, give factors beyond"
    assert search.best_factors(cells[:3], [2.0, 1.0, 2.0]) == ([(cells[0].six_n_d, 1.0)], "")


@pytest.mark.parametrize(
    ("found", "rates"),
    [
        ([(1e11, 1.0), (4e11, 0.25)], [0.01, 0.01, 0.005, 0.0025, 0.00125]),
        # A factor that rises with the budget is the noise of the search: it is not extrapolated.
        ([(1e11, 0.25), (4e11, 1.0)], [0.0025, 0.0025, 0.005, 0.01, 0.01]),
        ([(1e11, 0.5)], [0.005] * 5),
    ],
)
def test_factors_are_a_power_law_of_the_budget_extrapolated_above_if_decreasing(found, rates):
    made = sweep(grid=grids.IsoFLOP([5e10, 1e11, 2e11, 4e11, 8e11], [5e4], growth=0))
    cells = made.cells({"": found})
    assert [cell.training.learning_rate for cell in cells] == pytest.approx(rates, rel=0.01)


def test_a_search_far_below_the_runs_is_told():
    def told(budget):
        return LearningRateSearch([1e9, budget], [1e4, 5e4]).too_cheap_for(sweep().cells())

    largest = max(cell.flops for cell in sweep().cells())
    assert told(largest / 9) == ""
    assert "the largest run has 20 times as many: short runs want higher" in told(largest / 20)


@pytest.mark.parametrize(
    ("budgets", "parameters", "factors", "message"),
    [
        ([], [], [1, 2, 3], "has no budgets: give one or more"),
        ([0], [1e4], [1, 2, 3], "budgets hold 0: all must be numbers above 0"),
        ([1e11], [1e4], [-1, 1, 2], "factors hold -1: all must be numbers above 0"),
        ([2e11, 1e11], [1e4, 1e5], [1, 2, 3], "they rise"),
        ([1e11, 2e11], [1e4], [1, 2, 3], "2 budgets, and parameters .*: give one number for each"),
        ([1e11], [1e4], [2, 1, 3], "give three or more, rising"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_line(budgets, parameters, factors, message):
    with pytest.raises(UserError, match=message):
        LearningRateSearch(budgets, parameters, factors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": lambda: grids.IsoFLOP([], [1e5])}, "grid is empty: its budgets"),
        ({"grid": lambda: grids.IsoFLOP([1e11], [0])}, "sizes hold 0"),
        ({"grid": lambda: grids.Product({"SEED": []})}, "no value of SEED: the grid is empty"),
        ({"grid": lambda: grids.IsoFLOP([1e11], [10.0])}, "no llama of 10 parameters"),
        ({"grid": lambda: grids.IsoFLOP([1e11, 2e11], [[4e4]])}, "for each of 2 budgets"),
        ({"grid": lambda: grids.IsoFLOP([1e11, 2e11], [[4e4], 4e4])}, "for each of 2 budgets"),
        ({"grid": lambda: grids.IsoFLOP([1e11], [[4e4, 0]])}, "sizes hold 0"),
        ({"grid": lambda: grids.IsoFLOP([1e11], [[4e4]], growth=0)}, "growth is 0, and sizes"),
        (
            {"grid": lambda: grids.IsoFLOP([1e11, 2e11], [4e4], num_seeds=[1])},
            r"num_seeds \[1\]: give a number for each of 2 budgets",
        ),
        ({"grid": lambda: grids.IsoFLOP([1e11], [4e4], num_seeds=[0])}, "num_seeds hold 0"),
        ({"grid": lambda: grids.IsoFLOP([1e11], [4e4], num_seeds=[2])}, "2 seeds, and .* has 1"),
        (
            {
                "grid": lambda: grids.IsoFLOP([1e11, 2e11], [[4e4], [4e4]], num_seeds=[2, 1]),
                "seeds": [0, 1],
                "schedule": lambda: StableThenDecay(0.2),
            },
            "of which runs branch off one another",
        ),
        ({"variants": [Variant("a"), Variant("a")]}, "give at least one, each its name"),
        ({"seeds": []}, "no seeds"),
        ({"base": ["sweeps/byte.gin"]}, "Did you mean sweeps/bytes.gin"),
        ({"schedule": lambda: StableThenDecay(1.5)}, "between 0 and 1"),
        ({"family": "palmm"}, "no family 'palmm'"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_a_line(changes, message):
    with pytest.raises(UserError, match=message):
        made = {key: value() if callable(value) else value for key, value in changes.items()}
        sweep(**made).cells()


def test_the_schedule_of_a_matched_run_is_its_own_length():
    cells = sweep(grid=grids.Parametric([50e3], [5, 20]), schedule=MatchedCosine()).cells()
    assert all(cell.stem is None for cell in cells)
    assert all(cell.bindings["SCHEDULE"] == "@schedules.Cosine()" for cell in cells)


PACKAGED = {
    "isoflop_quick": (15, 7.8e12),
    "isoflop_cpu": (24, 1.39e14),
    "isoflop_h100": (18, 2.6e17),
    "parametric_cpu": (25, 7.07e13),
    "shapes_cpu": (7, 1.13e13),
    "ablation_block": (30, 2.1e13),
    "ablation_attention": (36, 3.4e13),
    "ablation_mlp": (30, 2.1e13),
    "ablation_experts": (60, 5.6e13),
    "t5_finetuning": (15, 4.87e13),
    "tournament_cpu": (132, 8.5e14),
    "tournament_prefix_cpu": (96, 6.18e14),
    "tournament_prefix_quick": (96, 2.34e14),
    "switch_efficiency_cpu": (12, 3.47e13),
    "double_descent_cpu": (27, 8.62e13),
    "sample_efficiency_cpu": (6, 1.3e13),
    "quantization_cpu": (12, 1.41e13),
    "tournament_quick": (150, 1.193e14),
    "isoflop_decades_h100": (38, 2.67e18),
    "isoflop_decades_cpu": (106, 6.512e14),
    "t5_mixing": (18, 1.788e14),
    "t5_architectures": (30, 9.02e13),
    "t5_scaling": (30, 4.64e14),
    "t5_strategies": (24, 9.5e13),
    "t5_repeats": (30, 1.468e14),
    "t5_spans": (30, 1.502e14),
    "t5_rates": (24, 1.346e14),
    "t5_objectives": (36, 2.248e14),
}


# Their runs differ in the model or the data, and are trained alike.
ALIKE = (
    *("shapes_cpu", "sample_efficiency_cpu", "double_descent_cpu", "switch_efficiency_cpu"),
    *("t5_mixing", "quantization_cpu"),
)
# Counting the models of the others takes up to half a minute each: a release does it.
IN_CI = ("isoflop_quick", "parametric_cpu", "ablation_block", "t5_spans")


def _marks(name):
    return pytest.mark.slow if name in IN_CI else pytest.mark.release


@pytest.mark.parametrize(
    ("name", "expected"), [pytest.param(*item, marks=_marks(item[0])) for item in PACKAGED.items()]
)
def test_a_packaged_sweep_costs_what_its_file_says(name, expected):
    from t5x_like.config.gin_files import packaged_gin_configs

    runs, flops = expected
    with config.isolated():
        config.parse([f"sweeps/{name}.gin"], [("TRAIN_FILES", "none")])
        cells = [cell for stage in config.macro("SWEEP").stage_cells() for cell in stage]
    assert len(cells) == runs
    assert sum(cell.cost for cell in cells) == pytest.approx(flops, rel=0.02)
    text = (packaged_gin_configs() / f"sweeps/{name}.gin").read_text()
    assert f"{runs} runs" in text.replace("\n# ", " ")
    assert f"--gin_file=sweeps/{name}.gin" in text
    trainings = {dataclasses.astuple(cell.training) for cell in cells}
    assert (len(trainings) == 1) == (name in ALIKE)


# -- What a sweep needs ------------------------------------------------------------------------


def test_a_product_needs_no_family(corpus, tmp_path):
    steps = tmp_path / "steps.gin"
    steps.write_text("TRAIN_STEPS = 8\nWARMUP_STEPS = 1\n")
    base = [*(flag.removeprefix("--gin_file=") for flag in corpus), str(steps)]
    made = Sweep(name="rates", base=base, grid=grids.Product({"LEARNING_RATE": [1e-3, 1e-2]}))
    cells = made.cells()
    assert [cell.training.learning_rate for cell in cells] == [1e-3, 1e-2]
    assert cells[0].record()["family"] is None
    assert "shape.gin" not in cells[0].gin_text("rates", tmp_path)


def test_a_grid_that_chooses_shapes_says_that_it_needs_a_family():
    with pytest.raises(UserError, match=r"must name a family \(sweep.Sweep.family\): .*llama"):
        sweep(family=None).cells()


@pytest.mark.parametrize("name", ["../up", "a/b", ".."])
def test_a_variant_whose_name_is_no_part_of_a_folders_is_refused(name):
    with pytest.raises(UserError, match="part of a folder's name"):
        sweep(variants=[Variant(name)])


def test_a_runs_gin_file_imports_the_sweeps_modules(tmp_path, monkeypatch):
    (tmp_path / "sweeps_own_module.py").write_text("imported = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = sweep(modules=["sweeps_own_module"], grid=grids.Parametric([50e3], [5])).cells()[0]
    text = cell.gin_text("tried", tmp_path)
    assert text.splitlines().count("import sweeps_own_module") == 1
    monkeypatch.delitem(sys.modules, "sweeps_own_module")
    with config.isolated():
        config.parse([config.GinText("cell.gin", text)])
    assert "sweeps_own_module" in sys.modules
