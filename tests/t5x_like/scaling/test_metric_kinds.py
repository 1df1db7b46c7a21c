"""Which metrics of records are losses."""

import pytest

from t5x_like import config
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.scaling.metric_kinds import is_count, is_of_loss

TINY = sorted(
    path.relative_to(packaged_gin_configs()).as_posix()
    for path in packaged_gin_configs().glob("models/*/tiny.gin")
)


def test_terms_of_every_familys_loss_are_losses():
    """But those of many tasks at once, which have their tasks' names: evaluated, each is `loss`."""
    unknown = {}
    for name in TINY:
        with config.isolated():
            config.parse([name])
            terms = getattr(config.macro("MODEL"), "loss_terms", {})
        unknown[name] = [term for term in terms if not is_of_loss(term)]
    assert len(unknown) > 30
    assert {name for name, terms in unknown.items() if terms} == {"models/mt_dnn/tiny.gin"}


@pytest.mark.parametrize(
    "name", ["router_z_loss", "part/z_loss", "activation_penalty", "perplexity"]
)
def test_less_of_a_loss_is_better(name):
    assert is_of_loss(name) and not is_count(name)


@pytest.mark.parametrize("name", ["token_accuracy", "bleu", "part/f1", "ranking_accuracy_sum"])
def test_more_of_a_score_is_better(name):
    assert not is_of_loss(name) and not is_count(name)


@pytest.mark.parametrize("name", ["expert_load_max", "router_entropy", "translation_length"])
def test_of_what_a_model_does_nothing_is_better(name):
    assert is_count(name) and not is_of_loss(name)
