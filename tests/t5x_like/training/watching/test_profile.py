"""PROFILE_STEPS: a window of steps that xprof reads."""

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from t5x_like.errors import UserError
from t5x_like.training.watching.profile import ProfileWindow, check_window


def test_the_steps_of_the_window_are_recorded_with_their_numbers_and_names(tmp_path):
    said = []
    window = ProfileWindow((3, 4), epath.Path(tmp_path), said.append)

    @jax.jit
    def step(x):
        with jax.named_scope("gradient"):
            return jnp.sin(x) @ x

    x = step(jnp.ones((8, 8)))
    for number in range(1, 6):
        window.before(number, x.block_until_ready)
        x = step(x)
        window.after(number, x.block_until_ready)
    (path,) = (tmp_path / "profile").rglob("*.xplane.pb")
    found = jax.profiler.ProfileData.from_file(str(path))
    events = [event for plane in found.planes for line in plane.lines for event in line.events]
    steps = [dict(event.stats) for event in events if event.name == "train"]
    assert sorted(one["step_num"] for one in steps) == [3, 4]
    (line,) = said
    assert line.startswith(f"profile of steps 3 to 4 in {tmp_path}/profile: pip install xprof")


def test_a_window_that_is_cut_short_is_written(tmp_path):
    window = ProfileWindow((1, 100), epath.Path(tmp_path), print)
    window.before(1, lambda: None)
    window.close()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    window.close()


@pytest.mark.parametrize("steps", [5, (5,), (0, 3), (7, 3), ("1", "2"), "12", (1.0, 2.0)])
def test_what_is_no_window_is_refused(steps):
    with pytest.raises(UserError, match="give the first and the last step to record"):
        check_window(steps, 100)


def test_a_window_after_the_end_is_refused():
    check_window((90, 100), 100)
    with pytest.raises(UserError, match=r"PROFILE_STEPS \(90, 101\) end after TRAIN_STEPS 100"):
        check_window((90, 101), 100)
