"""Laws against the figures that their papers print, and against their own definitions."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from t5x_like.errors import UserError
from t5x_like.scaling import laws

# Hoffmann et al. 2022, equation 10.
CHINCHILLA = laws.ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
# Kaplan et al. 2020, table 2.
KAPLAN = laws.KaplanLaw(N_c=6.4e13, D_c=1.8e13, alpha_N=0.076, alpha_D=0.103)
GADRE = laws.GadreLaw(E=1.8, a_M=140.0, b_M=190.0, eta=0.12)
ALL = (CHINCHILLA, KAPLAN, GADRE)


def test_chinchillas_loss_is_that_of_equation_2_by_hand():
    # N = 70e9, D = 1.4e12: 406.4 / 70e9^0.34 = 0.08336; 410.7 / 1.4e12^0.28 = 0.16328.
    np.testing.assert_allclose(CHINCHILLA.loss(70e9, 1.4e12), 1.69 + 0.0833644 + 0.1632797, 1e-5)


def test_chinchillas_exponents_are_the_papers():
    # Hoffmann et al. 2022, section 3.3: a = 0.46 and b = 0.54, rounded there from 0.28 / 0.62.
    assert CHINCHILLA.a == pytest.approx(0.4516, abs=1e-4)
    assert CHINCHILLA.b == pytest.approx(0.5484, abs=1e-4)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.kind)
@pytest.mark.parametrize("flops", [1e15, 1e21, 5.76e23])
def test_the_optimum_is_where_a_search_along_the_budget_finds_it(law, flops):
    n, d = law.optimum(flops)
    assert 6 * n * d == pytest.approx(flops, rel=1e-12)

    def loss(log_n):
        return float(law.loss(np.exp(log_n), flops / 6 / np.exp(log_n)))

    found = minimize_scalar(loss, bracket=(np.log(n) - 2, np.log(n) + 3), options={"xtol": 1e-9})
    assert np.log(n) == pytest.approx(found.x, abs=1e-4)


@pytest.mark.parametrize("law", ALL, ids=lambda law: law.kind)
def test_the_exponent_is_the_slope_of_the_optimum(law):
    low, high = law.optimum(np.array([1e18, 1e22]))[0]
    assert np.log10(high / low) / 4 == pytest.approx(law.a, rel=1e-10)
    assert law.a + law.b == pytest.approx(1)


def test_gadres_law_is_chinchillas_with_one_exponent():
    same = laws.ParametricLaw(
        E=1.8, A=140 / 6**0.12, B=190 / 6**0.12, alpha=0.24, beta=0.24
    )  # Gadre et al. 2024, section 2
    n, d = np.array([1e8, 1e9, 7e9]), np.array([2e9, 1e12, 3e10])
    np.testing.assert_allclose(GADRE.loss(n, d), same.loss(n, d), rtol=1e-12)
    np.testing.assert_allclose(GADRE.optimum(1e21), same.optimum(1e21), rtol=1e-12)


def test_an_allocation_predicts_a_loss_only_with_a_law_of_losses():
    allocation = laws.AllocationLaw(coefficient=0.1, exponent=0.5)
    n, d = allocation.optimum(6e20)
    assert n == pytest.approx(0.1 * 6e20**0.5) and d == pytest.approx(1e20 / n)
    assert allocation.loss(n, d) is None
    with_losses = laws.AllocationLaw(0.1, 0.5, loss_law=CHINCHILLA)
    assert with_losses.loss(n, d) == CHINCHILLA.loss(n, d)


def test_coefficients_may_be_samples():
    samples = laws.ParametricLaw(E=1.7, A=400.0, B=np.array([400.0, 500.0]), alpha=0.34, beta=0.3)
    n, _ = samples.optimum(np.array([[1e20], [1e21], [1e22]]))
    assert n.shape == (3, 2)
    one = laws.ParametricLaw(E=1.7, A=400.0, B=500.0, alpha=0.34, beta=0.3)
    assert n[2, 1] == pytest.approx(one.optimum(1e22)[0])


@pytest.mark.parametrize("law", [*ALL, laws.AllocationLaw(0.1, 0.5, loss_law=CHINCHILLA)])
def test_a_law_is_read_back_from_json(law):
    assert laws.from_json(json.loads(json.dumps(law.to_json()))) == law


def test_a_law_that_is_none_says_what_one_is():
    with pytest.raises(UserError, match="parametric, allocation, kaplan, gadre, not 'cubic'"):
        laws.from_json({"kind": "cubic"})
    with pytest.raises(UserError, match=r"'gadre' has E, a_M, b_M, eta, .*; found E, eta"):
        laws.from_json({"kind": "gadre", "E": 1.0, "eta": 0.1})
