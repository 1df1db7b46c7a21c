"""What is used of gin's inside is checked when it is imported."""

import re
import types
from pathlib import Path

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


def test_no_other_module_uses_gins_private_names_or_its_state():
    package = Path(gin_internals.__file__).parents[1]
    others = [path for path in package.rglob("*.py") if path != Path(gin_internals.__file__)]
    private = re.compile(r"\bgin\._|\bgin\.config\b|from gin import .*\bconfig\b|from gin\.config ")
    assert private.search(Path(gin_internals.__file__).read_text(encoding="utf-8"))
    assert not [p.name for p in others if private.search(p.read_text(encoding="utf-8"))]
