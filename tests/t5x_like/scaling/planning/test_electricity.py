"""Energy and CO2 of training, as papers have them."""

import json

import pytest

from t5x_like import cli
from t5x_like.cost.chips import CHIPS, Chip
from t5x_like.scaling.planning.accelerators import accelerators
from t5x_like.scaling.planning.electricity import Electricity

LLAMA = ["--parameters=65.2b", "--tokens=1.4T", "--family=llama", "--chips=a100-2048"]


@pytest.mark.parametrize(
    ("hours", "mwh", "tonnes"),
    [
        (809_472, 356, 137),  # OPT 175B
        (1_082_880, 475, 183),  # BLOOM 175B, = 476.5
        (82_432, 36, 14),  # LLaMA 7B
        (135_168, 59, 23),
        (530_432, 233, 90),
        (1_022_362, 449, 173),  # LLaMA 65B, = 449.8
    ],
)
def test_llamas_table_follows_from_its_hours(hours, mwh, tonnes):
    """Touvron et al. 2023, table 15: 400 W of an A100, PUE 1.1, 0.385 kg a kWh; of the energy
    two rows are cut, not rounded."""
    found, a100 = Electricity(), accelerators("a100").chip
    assert found.kwh(a100, hours) / 1000 == pytest.approx(mwh, abs=1.6)
    assert found.kg_co2(a100, hours) / 1000 == pytest.approx(tonnes, abs=0.6)


@pytest.mark.parametrize(
    ("watts", "hours", "kwh", "pounds"),
    [
        (1415.78, 12, 27, 26),  # Transformer base, 8 P100
        (1515.43, 84, 201, 192),  # Transformer big
        (517.66, 336, 275, 262),  # ELMo, 3 P100
        (1515.43, 274_120, 656_347, 626_155),  # architecture search
    ],
)
def test_strubells_table_follows_from_its_watts(watts, hours, kwh, pounds):
    """Strubell et al. 2019, table 3: watts of all chips together, PUE 1.58, 0.954 pounds a kWh."""
    found = Electricity(watts, pue=1.58, kg_co2_per_kwh=0.954)
    chip = accelerators("v100").chip
    assert found.kwh(chip, hours) == pytest.approx(kwh, abs=0.5, rel=1e-4)
    assert found.kg_co2(chip, hours) == pytest.approx(pounds, abs=0.5, rel=1e-4)


def test_a_chip_of_unknown_power_needs_it_given():
    unknown = Chip("new", ("new",), 1e15)
    assert Electricity().kwh(unknown, 10) is Electricity().kg_co2(unknown, 10) is None
    assert Electricity(500, pue=1).kwh(unknown, 10) == 5
    assert all(50 < chip.watts < 1500 for chip in CHIPS if chip.watts)


@pytest.mark.slow
def test_llama_65b_takes_21_days_of_2048_gpus(capsys):
    """380 tokens a second and GPU: 1.4T tokens in 20.8 days (Touvron et al. 2023, section 2.4).
    The exact FLOPs have attention too: 49.3% where 6ND gives 47.6%."""
    assert cli.main(["plan", *LLAMA, "--tokens_per_second=380", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["wall_days"] == pytest.approx(20.8, rel=0.005)
    assert found["tokens_per_second"] == pytest.approx(380)
    assert found["mfu"] == pytest.approx(0.493, abs=0.001)
    by_6nd = found["mfu"] / found["model"]["flops_ratio"]
    assert by_6nd == pytest.approx(0.476, rel=0.02)
    assert found["energy_kwh"] == pytest.approx(449e3, rel=0.01)
    assert found["co2_kg"] == pytest.approx(173e3, rel=0.01)


def test_the_text_says_by_what_energy_was_reckoned(capsys):
    small = ["plan", "--parameters=20m", "--tokens=1B", "--family=lstm", "--kg_co2_per_kwh=0.05"]
    assert cli.main([*small, "--chips=h100-8", "--pue=1.2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "kWh, 700 W a chip, PUE 1.2" in said and "kg, 0.05 kg a kWh of the grid" in said
    assert cli.main([*small, "--chips=v5p-8"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "energy not known no power of v5p is published: --watts" in said
