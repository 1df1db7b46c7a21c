"""Inverses are inverses; over-training and repeated data as in their papers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_like.errors import UserError
from t5x_like.scaling.laws import ParametricLaw
from t5x_like.scaling.named_laws import NAMES, named
from t5x_like.scaling.planning import invert_law
from t5x_like.scaling.planning.query import Question, answer
from t5x_like.scaling.planning.repeated_data import RepeatedData

LAWS = st.sampled_from(NAMES).map(named)
BUDGETS = st.floats(16, 27).map(lambda power: 10.0**power)


# -- Inverses --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(law=LAWS, flops=BUDGETS)
def test_what_a_budget_gives_asks_for_that_budget(law, flops):
    point, _ = answer(law, Question(flops=flops))
    for given_one in ("parameters", "tokens", "loss"):
        back, _ = answer(law, Question(**{given_one: getattr(point, given_one)}))
        assert back.flops == pytest.approx(flops, rel=1e-8)
        assert back.parameters == pytest.approx(point.parameters, rel=1e-8)


@settings(deadline=None, max_examples=40)
@given(law=LAWS, n=st.floats(6, 12), d=st.floats(8, 14))
def test_two_quantities_find_the_others(law, n, d):
    n, d = 10.0**n, 10.0**d
    loss = float(law.loss(n, d))
    for question in (
        Question(parameters=n, tokens=d),
        Question(parameters=n, flops=6 * n * d),
        Question(tokens=d, flops=6 * n * d),
        Question(parameters=n, loss=loss),
        Question(tokens=d, loss=loss),
    ):
        point, _ = answer(law, question)
        assert (point.parameters, point.tokens) == pytest.approx((n, d), rel=1e-6)
        assert point.loss == pytest.approx(loss, rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(flops=BUDGETS, unique=st.floats(8, 13).map(lambda power: 10.0**power))
def test_a_budget_with_repeated_data_is_spent_no_worse_than_near_by(flops, unique):
    law = RepeatedData(named("besiroglu2024"), unique)
    n, d = law.optimum(flops)
    assert 6 * n * d == pytest.approx(flops)
    for other in (0.5, 0.9, 1.1, 2.0):
        assert law.loss(n, d) <= law.loss(n * other, d / other) + 1e-12


def test_a_loss_at_or_below_e_is_refused():
    with pytest.raises(UserError, match=r"--loss=1.5 is not above 1.8172.*besiroglu2024"):
        answer(named("besiroglu2024"), Question(loss=1.5))


def test_a_loss_that_no_training_gives_a_model_is_refused():
    # 1.8172 + 482.01 / (1e8)^0.3478 = 1.8172 + 482.01 / exp(0.3478 * 18.42068) = 2.6129
    with pytest.raises(UserError, match=r"--loss=2.6 is not above 2\.61\d*, .* for N 1e\+08"):
        answer(named("besiroglu2024"), Question(parameters=1e8, loss=2.6))


@pytest.mark.parametrize(
    "quantities", [{}, {"flops": 1e20, "loss": 2.0}, {"flops": 1e20, "tokens": 1e9, "loss": 2.0}]
)
def test_a_question_without_one_answer_is_refused(quantities):
    with pytest.raises(UserError, match=r"a plan needs one of --flops"):
        Question(**quantities)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_quantities_are_finite_and_above_zero(value):
    with pytest.raises(UserError, match=r"--flops=.*must be above 0"):
        Question(flops=value)


# -- Inference -------------------------------------------------------------------------------


def test_over_training_saves_what_sardana_and_frankle_found():
    """Figure 1: at the quality of a 13B Chinchilla model and 2e12 tokens of inference, a 7B model
    on more tokens saves 1.7e22 FLOPs, 17%; with their coefficients."""
    law = ParametricLaw(1.69, 406.4, 410.7, 0.336, 0.283)
    loss = law.loss(*law.optimum(invert_law.flops_for_parameters(law, 13e9)))
    point, alone = answer(law, Question(loss=float(loss), inference_tokens=2e12))
    assert alone.parameters == pytest.approx(13e9)
    assert point.parameters == pytest.approx(7e9, rel=0.01)
    assert point.loss == pytest.approx(alone.loss, rel=1e-12)
    saved = alone.with_inference(2e12) - point.with_inference(2e12)
    assert saved == pytest.approx(1.7e22, rel=0.01)
    assert saved / alone.with_inference(2e12) == pytest.approx(0.17, abs=0.005)


def test_llamas_argument():
    """Touvron et al. 2023, section 1: 10B parameters on 200B tokens are cheaper to train, a 7B
    model that is trained for longer is cheaper at inference, and 7B improves beyond 1T tokens."""
    law = named("besiroglu2024")
    large = answer(law, Question(parameters=10e9, tokens=200e9))[0]
    small = answer(law, Question(parameters=7e9, loss=large.loss))[0]
    assert small.flops > large.flops
    assert small.tokens > 200e9
    # 6 N D + 2 N D_inf is equal for both at this many tokens of inference.
    equal = 3 * (small.parameters * small.tokens - large.parameters * large.tokens) / 3e9
    for share, cheaper in ((0.9, large), (1.1, small)):
        costs = {each.with_inference(share * equal): each for each in (large, small)}
        assert costs[min(costs)] is cheaper
    assert law.loss(7e9, 1e12) < large.loss
    assert law.loss(7e9, 1.1e12) < law.loss(7e9, 1e12)


@pytest.mark.parametrize("name", ["besiroglu2024", "hoffmann2022_approach3"])
def test_without_inference_the_cheapest_is_the_compute_optimum(name):
    law = named(name)
    point, alone = answer(law, Question(flops=1e21, inference_tokens=1.0))
    assert point.parameters == pytest.approx(alone.parameters, rel=1e-3)


def test_more_inference_wants_a_smaller_model_that_no_other_beats():
    law, loss = named("besiroglu2024"), 2.2
    points = [
        answer(law, Question(loss=loss, inference_tokens=tokens))[0]
        for tokens in (1e11, 1e12, 1e13)
    ]
    sizes = [point.parameters for point in points]
    assert sizes == sorted(sizes, reverse=True)
    best = points[1].with_inference(1e12)
    for size in sizes[1] * np.array([0.7, 0.95, 1.05, 1.5]):
        tokens = invert_law.tokens_for_loss(law, size, loss)
        assert size * (6 * tokens + 2e12) > best


# -- Repeated data ---------------------------------------------------------------------------


def test_repeated_tokens_are_worth_what_muennighoff_says():
    law = RepeatedData(named("besiroglu2024"), unique_tokens=1e9)
    # Section 3.1: without repetitions nothing changes; after R*_D of them each was worth
    # 1 - 1/e of a new token on average; in all never more than U + U R*_D.
    assert law.effective(1e6, 0.5e9)[1] == pytest.approx(0.5e9)
    r = law.r_star_d
    worth = law.effective(1e6, 1e9 * (1 + r))[1] - 1e9
    assert worth / (1e9 * r) == pytest.approx(1 - np.exp(-1))
    assert law.effective(1e6, 1e15)[1] == pytest.approx(16.387756e9)
    # Figure 1: four epochs are almost as good as new data.
    assert law.effective(1e6, 4e9)[1] > 0.9 * 4e9


def test_scarce_data_wants_a_smaller_model_and_more_epochs_as_in_muennighoffs_experiment():
    """Section 5: at 9.3e21 FLOPs and 25B unique tokens, 6.34B parameters on 242B tokens (9.7
    epochs) in place of Chinchilla's 8.67B on 178B (7.1 epochs); with their fit of C4."""
    c4 = ParametricLaw(1.87, 521, 1488, 0.353, 0.353)
    point, endless = answer(RepeatedData(c4, 25e9), Question(flops=9.3e21))
    assert endless.parameters == pytest.approx(8.67e9, rel=0.1)
    assert endless.tokens == pytest.approx(178e9, rel=0.1)
    assert point.parameters == pytest.approx(6.34e9, rel=0.1)
    assert point.tokens / 25e9 == pytest.approx(9.7, rel=0.1)
    # The limit costs loss, and Chinchilla's choice would cost more.
    constrained = RepeatedData(c4, 25e9)
    assert endless.loss < point.loss < constrained.loss(endless.parameters, endless.tokens)


def test_enough_data_changes_nothing():
    law = named("besiroglu2024")
    point, endless = answer(RepeatedData(law, 1e12), Question(flops=1e21))
    assert endless is None
    assert (point.parameters, point.tokens) == pytest.approx(law.optimum(1e21))
    assert point.loss == pytest.approx(float(law.loss(point.parameters, point.tokens)))


def test_epochs_that_are_worth_nothing_are_refused():
    # exp(-R / 15.387756) < 0.01 from R = 70.9.
    law = RepeatedData(named("besiroglu2024"), 1e9)
    assert answer(law, Question(parameters=1e8, tokens=71.8e9))
    with pytest.raises(UserError, match=r"7.2e\+10 tokens are 72.0 epochs of --unique_tokens"):
        answer(law, Question(parameters=1e8, tokens=72e9))


def test_a_loss_that_repeated_data_cannot_reach_is_refused():
    law = RepeatedData(named("besiroglu2024"), 1e9)
    with pytest.raises(UserError, match=r"--loss=2.1 is not above .* 1e\+09 unique tokens allow"):
        answer(law, Question(loss=2.1))
