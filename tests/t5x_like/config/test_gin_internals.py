"""What is used of gin's inside is checked when it is imported."""

import types

import gin.config
import pytest

from t5x_like.config import gin_internals
from t5x_like.errors import UserError


def test_a_gin_without_a_name_that_is_used_is_refused_in_one_line():
    other = types.SimpleNamespace(**vars(gin.config))
    gin_internals.check_version(other)
    del other._OPERATIVE_CONFIG
    with pytest.raises(UserError, match=r"no _OPERATIVE_CONFIG, .* install gin-config 0.5.0"):
        gin_internals.check_version(other)
