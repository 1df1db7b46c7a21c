"""Published laws give the numbers of their papers."""

import numpy as np
import pytest
from scipy.optimize import linprog

from t5x_like.errors import UserError
from t5x_like.scaling import named_laws
from t5x_like.scaling.laws import WITHOUT_EMBEDDINGS
from t5x_like.scaling.named_laws import PF_DAY, KaplanStepsLaw, known, minimax_power_law, named
from t5x_like.scaling.planning import invert_law

APPROACH1 = named_laws.APPROACH1_TABLE
APPROACH2 = named_laws.APPROACH2_TABLE
# Hoffmann et al. 2022, table A3, right half. The paper prints 1.26e24 FLOPs for 175B; 6ND and its
# neighbours say 1.26e25.
APPROACH3 = (
    (400e6, 2.21e19, 9.2e9),
    (1e9, 1.62e20, 27.1e9),
    (10e9, 2.46e22, 410.1e9),
    (67e9, 1.71e24, 4.1e12),
    (175e9, 1.26e25, 12.0e12),
    (280e9, 3.52e25, 20.1e12),
    (520e9, 1.36e26, 43.5e12),
    (1e12, 5.65e26, 94.1e12),
    (10e12, 8.55e28, 1425.5e12),
)
TABLES = [
    *[("hoffmann2022_approach1", row) for row in APPROACH1],
    *[("hoffmann2022_approach2", row) for row in APPROACH2],
]


def test_approach1s_table_is_the_papers():
    assert APPROACH1[0] == (400e6, 1.92e19, 8.0e9)
    assert APPROACH1[3] == (67e9, 5.76e23, 1.5e12)
    assert APPROACH1[-1] == (10e12, 1.30e28, 216.2e12)
    assert len(APPROACH1) == 9


@pytest.mark.parametrize(("name", "row"), TABLES, ids=str)
def test_a_size_of_the_papers_table_needs_its_flops_and_tokens_within_5_percent(name, row):
    parameters, flops, tokens = row
    law = named(name)
    found = invert_law.flops_for_parameters(law, parameters)
    assert found == pytest.approx(flops, rel=0.05)
    assert law.optimum(found)[1] == pytest.approx(tokens, rel=0.05)


@pytest.mark.parametrize(("name", "row"), TABLES, ids=str)
def test_a_budget_of_the_papers_table_gives_its_size_and_tokens_within_5_percent(name, row):
    parameters, flops, tokens = row
    found = named(name).optimum(flops)
    assert found == pytest.approx((parameters, tokens), rel=0.05)


@pytest.mark.parametrize("row", APPROACH3, ids=str)
def test_approach3_gives_the_papers_sizes_with_the_digits_that_equation_10_drops(row):
    parameters, flops, _ = row
    unrounded = named("hoffmann2022_approach3_unrounded").optimum(flops)[0]
    printed = named("hoffmann2022_approach3").optimum(flops)[0]
    assert unrounded == pytest.approx(parameters, rel=0.1)
    assert printed < 0.83 * parameters


@pytest.mark.parametrize(
    ("name", "a"),
    [
        ("kaplan2020", 0.73),
        ("hoffmann2022_approach1", 0.50),
        ("hoffmann2022_approach2", 0.49),
        ("hoffmann2022_approach3_unrounded", 0.46),
        ("besiroglu2024", 0.51),  # 0.513, section 4
    ],
)
def test_the_exponent_of_n_is_the_papers_to_two_digits(name, a):
    assert round(named(name).a, 2) == a


def test_approach3_predicts_chinchillas_loss_by_equation_10():
    # 1.69 + 406.4 / (70e9)^0.34 + 410.7 / (1.4e12)^0.28, by hand:
    # (70e9)^0.34 = exp(0.34 * 24.97177) = 4868.8; (1.4e12)^0.28 = exp(0.28 * 27.96749) = 2517.0
    expected = 1.69 + 406.4 / 4868.8 + 410.7 / 2517.0
    assert named("hoffmann2022_approach3").loss(70e9, 1.4e12) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["hoffmann2022_approach1", "hoffmann2022_approach2"])
def test_approaches_1_and_2_borrow_approach_3s_loss_and_say_so(name):
    law = known(name)
    surface = named("hoffmann2022_approach3")
    assert law.law.loss(1e9, 2e10) == surface.loss(1e9, 2e10)
    assert any("predicts no loss" in note for note in law.notes)


def test_the_power_law_of_a_table_is_the_one_of_the_smallest_largest_error():
    n, _, d = np.array(APPROACH1).T
    k, p = minimax_power_law(n, d)
    largest = np.abs(np.log(k) + p * np.log(n) - np.log(d)).max()
    # The same as a linear program: the least t with |log k + p log n - log d| <= t.
    line = np.stack([np.ones(9), np.log(n)], axis=1)
    bounds = np.block([[line, -np.ones((9, 1))], [-line, -np.ones((9, 1))]])
    sides = np.concatenate([np.log(d), -np.log(d)])
    least = linprog([0, 0, 1], bounds, sides, bounds=[(None, None)] * 3).fun
    assert largest == pytest.approx(least, rel=1e-6)


# -- Kaplan ----------------------------------------------------------------------------------


def test_kaplans_best_size_at_1e21_flops_is_the_one_that_hoffmann_computed():
    # Hoffmann et al. 2022, appendix D.4: 4.68 billion.
    assert named("kaplan2020").optimum(1e21)[0] == pytest.approx(4.68e9, rel=2e-3)
    assert named("kaplan2020").parameters_kind == WITHOUT_EMBEDDINGS


@pytest.mark.parametrize("flops", [1e18, 1e20, 1e22])
def test_kaplans_tokens_and_loss_agree_with_the_papers_own_power_laws(flops):
    n, d = named("kaplan2020").optimum(flops)
    least_compute = flops / 2 / PF_DAY
    # Table 6 gives 2e10 C_min^0.27 tokens, section 6.3 twice as many for the same budget.
    assert 2e10 * least_compute**0.27 < d < 4e10 * least_compute**0.27
    # Equation 1.3, L(C_min) = (3.1e8 / C_min)^0.050; the paper's fits differ by some percent.
    assert named("kaplan2020").loss(n, d) == pytest.approx(
        (3.1e8 / least_compute) ** 0.05, rel=0.04
    )


@pytest.mark.parametrize(("n", "d"), [(1e6, 1e8), (1e9, 1e10), (1e12, 1e11), (1e9, 1e16)])
def test_kaplans_loss_solves_its_equation(n, d):
    law = KaplanStepsLaw()
    loss = law.loss(n, d)
    batch = law.B_star / loss ** (1 / law.alpha_B)
    steps = d / batch / 2  # S_min = S / (1 + B_crit / B) at B = B_crit
    expected = (law.N_c / n) ** law.alpha_N + (law.S_c / steps) ** law.alpha_S
    assert loss == pytest.approx(expected, rel=1e-12)


# -- Besiroglu -------------------------------------------------------------------------------


def test_the_replication_finds_chinchilla_near_its_budget():
    n, d = named("besiroglu2024").optimum(5.76e23)
    assert n == pytest.approx(70e9, rel=0.05)
    assert d == pytest.approx(1.4e12, rel=0.06)


def test_the_replications_samples_spread_as_the_paper_says():
    # Besiroglu et al. 2024, table 1: standard errors.
    samples = known("besiroglu2024").samples
    errors = (("A", 124.58), ("B", 1293.23), ("E", 0.03), ("alpha", 0.02), ("beta", 0.02))
    for name, error in errors:
        values = getattr(samples, name)
        assert len(values) >= 200
        assert np.std(values) == pytest.approx(error, rel=0.25)
        assert np.percentile(values, 2.5) < getattr(named("besiroglu2024"), name)
        assert np.percentile(values, 97.5) > getattr(named("besiroglu2024"), name)


# -- Names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["Hoffmann 2022, Approach 1", "HOFFMANN2022-approach1"])
def test_names_match_whatever_their_case_and_punctuation(spelled):
    assert named(spelled).name == "hoffmann2022_approach1"


def test_an_unknown_law_is_refused_with_the_nearest_names():
    with pytest.raises(UserError, match=r"no law 'besiroglou24'.*Did you mean besiroglu2024\?"):
        known("besiroglou24")


@pytest.mark.parametrize("name", named_laws.NAMES)
def test_every_law_has_a_source_and_explains_its_interval(name):
    law = known(name)
    assert " et al. 20" in law.law.source
    assert any("interval" in note for note in law.notes)
