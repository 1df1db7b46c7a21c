"""Names of accelerators mean what their makers and `docs/launch.md` say."""

import re
from pathlib import Path

import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.planning.accelerators import accelerators

LAUNCH = Path(__file__).parents[4] / "docs" / "launch.md"


@pytest.mark.parametrize(
    ("name", "chip", "count"),
    [
        ("v2-8", "v2", 4),
        ("v3-8", "v3", 4),
        ("v4-32", "v4", 16),
        ("v5p-2048", "v5p", 1024),
        ("tpu7x-128", "tpu7x", 64),
        ("v5e-256", "v5e", 256),
        ("v5litepod-16", "v5e", 16),
        ("v6e-256", "v6e", 256),
        ("v5p:8x16x16", "v5p", 2048),
        ("h100-8", "H100", 8),
        ("H100-PCIe-4", "H100 PCIe", 4),
        ("a100", "A100", 1),
    ],
)
def test_a_name_says_which_chip_and_how_many(name, chip, count):
    found = accelerators(name)
    assert (found.chip.name, found.count) == (chip, count)


def test_tpus_have_as_many_devices_as_the_table_of_hardware_files_says():
    rows = re.findall(r"TPU (v\S+) \| ([\d,]+) \|", LAUNCH.read_text())
    assert len(rows) >= 7
    for name, devices in rows:
        assert accelerators(name).devices == int(devices.replace(",", ""))


def test_hours_are_flops_over_the_reached_speed():
    # 459e12 FLOP/s of a v5p at an MFU of a half, for an hour of 1,000 chips.
    assert accelerators("v5p-2048").hours(1000 * 3600 * 459e12 / 2, 0.5) == pytest.approx(1000)


def tokens_flops(parameters, layers, width, length=2048):
    """6 N + 12 L H Q T (Chowdhery et al. 2022, appendix B); H Q heads' units are `width`."""
    return 6 * parameters + 12 * layers * width * length


@pytest.mark.parametrize(
    ("chips", "flops_per_token", "tokens_per_second", "published"),
    [
        # Chowdhery et al. 2022, table 3 and section 4.1: tokens a second, or 0.0152 steps a
        # second of Gopher's 3,072 rows.
        ("v3-8192", tokens_flops(280e9, 80, 128 * 128), 0.0152 * 3072 * 2048, 0.325),
        ("a100-2240", tokens_flops(530e9, 105, 128 * 160), 65.43e3, 0.302),
        ("a100-2240", 6 * 530e9, 65.43e3, 0.297),
        ("v4-12288", tokens_flops(540.35e9, 118, 48 * 256), 238.3e3, 0.462),
        ("v4-12288", 6 * 540.35e9, 238.3e3, 0.457),
        # Narayanan et al. 2021, section 5.1: 300B tokens of GPT-3 in 34 days are 104 TFLOP/s a
        # GPU by 6ND, a third of the peak.
        ("a100-1024", 6 * 175e9, 300e9 / (34 * 24 * 3600), 0.335),
        # LLaMA 65B, 380 tokens a second and GPU (Touvron et al. 2023, section 2.4): 149 TFLOP/s.
        ("a100-2048", 6 * 65.2e9, 380 * 2048, 0.476),
    ],
)
def test_published_speeds_are_the_published_share_of_the_peak(
    chips, flops_per_token, tokens_per_second, published
):
    found = accelerators(chips).mfu(flops_per_token, tokens_per_second)
    assert found == pytest.approx(published, abs=1e-3)


def test_gpt3s_published_share_counts_attention_three_times():
    """24.6 TFLOP/s of a V100 without attention (Patterson et al. 2021), 21.3% with it in Chowdhery
    et al. 2022, table 3; their formula gives 20.2%."""
    without = 24.6e12 / 125e12
    attention = 12 * 96 * 12288 * 2048 / (6 * 175e9)
    one = accelerators("v100")
    found = one.mfu(tokens_flops(175e9, 96, 12288), 24.6e12 / (6 * 175e9))
    assert found == pytest.approx(without * (1 + attention)) == pytest.approx(0.202, abs=1e-3)
    assert without * (1 + 3 * attention) == pytest.approx(0.213, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5q-8", r"no chip 'v5q': there are .* Did you mean v5p"),
        ("v5p-7", "v5p's number counts TensorCores, 2 a chip"),
        ("v5e-0", "at least one chip"),
        ("8 of them", "wanted a chip and how many, v5p-2048"),
    ],
)
def test_what_is_no_accelerator_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        accelerators(name)
