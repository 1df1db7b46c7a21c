"""Random bytes and spoiled gin files: refused in one line, or fit to run, and never a traceback."""

import pytest
from hypothesis import strategies as st

from t5x_like import cli
from tests.reliability import mutations

DEPTHS = [40, pytest.param(150, marks=pytest.mark.slow)]
VALID = b"""# A comment.
from __gin__ import dynamic_registration

from models import gpt
from t5x_like import optimizers
from t5x_like import schedules

SEED = 3
BATCH_SIZE = 8
LENGTHS = {'targets': 24}
MODEL = @gpt.GPT2()
gpt.GPT2:
  num_layers = 2
  dropout_rate = %DROPOUT_RATE
OPTIMIZER = @optimizers.adamw()
optimizers.adamw.schedule = @mine/schedules.Cosine()
mine/schedules.Cosine.peak = 1e-3
"""
TOKENS = (
    b"@", b"%", b"()", b"=", b":", b"/", b".", b"\n", b"  ", b"'", b'"', b"[", b"]", b"{", b"}",
    b"include 'runs/eval.gin'\n", b"None", b"@gpt.GPT2", b"%SEED", b"%MODEL", b"MODEL = ", b"\\\n",
    b"import t5x_like\n", b"train/", b"-1", b"1e999", b"'''", b"# ", b"\t", b"\x00", b"\xff",
    "é".encode(), "٣".encode(),
)  # fmt: skip


@pytest.fixture
def dry_run(train_flags, tmp_path, capsys):
    """Starts training with one more gin file, up to the point where anything would happen."""

    def check(content):
        path = tmp_path / "fuzzed.gin"
        path.write_bytes(content)
        flags = [f"--gin_file={path}", f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]
        code = cli.main([*train_flags, *flags])
        said = capsys.readouterr().err
        assert code in (0, 2), said
        errors = [line for line in said.splitlines() if " warning: " not in line]
        assert len(errors) == (1 if code else 0), said
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fuzzed.gin"]

    return check


@pytest.mark.slow
@pytest.mark.parametrize("examples", DEPTHS)
def test_random_bytes(fuzz, dry_run, examples):
    fuzz(st.binary(max_size=60), dry_run, examples)


@pytest.mark.slow
@pytest.mark.parametrize("examples", DEPTHS)
def test_random_text(fuzz, dry_run, examples):
    letters = st.sampled_from("aA_1. =@%()[]{}'\":,/#\n\\-")
    fuzz(st.text(letters, max_size=40).map(str.encode), dry_run, examples)


@pytest.mark.slow
@pytest.mark.parametrize("examples", DEPTHS)
def test_a_file_with_slips(fuzz, dry_run, examples):
    fuzz(mutations.spoiled(VALID, TOKENS), dry_run, examples)
