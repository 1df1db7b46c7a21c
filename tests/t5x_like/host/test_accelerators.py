"""libtpu on a machine without a TPU, where it only compiles, starts nothing and says nothing."""

import importlib.util
import os

import pytest

from t5x_like.host import accelerators


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends what is installed and which device files there are."""

    def make(installed, files=(), environment=None):
        for file in files:
            (tmp_path / file).touch()
        monkeypatch.setattr(accelerators, "ACCELERATORS", {"libtpu": (f"{tmp_path}/accel*",)})
        monkeypatch.setattr(
            accelerators.importlib.util, "find_spec", lambda name: name in installed or None
        )
        for name in ("JAX_PLATFORMS", "JAX_FORCE_TPU_INIT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        accelerators.pass_over_absent_tpu()
        return os.environ.get("JAX_PLATFORMS")

    return make


def test_a_tpu_that_is_not_there_is_not_started(machine):
    assert machine({"libtpu"}) == "cpu"


@pytest.mark.parametrize(
    ("installed", "files", "environment", "found"),
    [
        ({"libtpu"}, ["accel0"], {}, None),
        ((), [], {}, None),
        ({"libtpu", "jax_plugins"}, [], {}, None),
        ({"libtpu"}, [], {"JAX_FORCE_TPU_INIT": "1"}, None),
        ({"libtpu"}, [], {"JAX_PLATFORMS": "tpu,cpu"}, "tpu,cpu"),
        ({"libtpu"}, [], {"JAX_PLATFORMS": ""}, ""),
    ],
    ids=["a TPU", "no libtpu", "other plugins", "forced", "asked for", "left to JAX"],
)
def test_everything_else_is_left_to_jax(machine, installed, files, environment, found):
    assert machine(installed, files, environment) == found


@pytest.mark.skipif(
    importlib.util.find_spec("jax_plugins") is not None, reason="JAX has an accelerator here"
)
def test_the_package_sees_to_it_before_jax_is_imported(tmp_path, program):
    (tmp_path / "libtpu.py").write_text("raise RuntimeError('started')")
    code = (
        "import os, sys; del os.environ['JAX_PLATFORMS']; sys.path.insert(0, sys.argv[1]); "
        "import t5x_like; print(os.environ.get('JAX_PLATFORMS'), 'jax' in sys.modules)"
    )
    assert program("-c", code, str(tmp_path)).stdout == "cpu False\n"
