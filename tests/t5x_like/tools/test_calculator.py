"""A calculator that reads arithmetic, and evaluates nothing else."""

import time

import pytest

from t5x_like.tools import Calculator


@pytest.mark.parametrize(
    ("query", "result"),
    [
        # Shared worked examples; Thoppilan et al. 2022 have the first.
        ("135+7721", "7856"),
        ("1736271+284617183", "286353454"),
        ("184624−18371", "166253"),
        ("2 lb + 3 kg", "8.613868 lb"),  # 3 / 0.45359237 = 6.613868
        ("2 + 3 * 4 - 10 / 4", "11.5"),
        ("-2 ^ 2", "-4"),
        ("2 ** 3 ** 2", "512"),
        ("2 ^ -1", "0.5"),
        ("(1 + 2) × (3 - 5) = ?", "-6"),
        ("0.1 + 0.2", "0.3"),  # not 0.30000000000000004
        ("10 / 3", "3.333333"),
        ("1 / 7000", "0.0001428571"),
        ("1,000,000 / 3", "333333.33"),
        ("12,345.5 + 1234", "13579.5"),
        ("20% * 50", "10"),
        ("99999999999999999999 + 1", "100000000000000000000"),
        ("3 ft + 6 in in cm", "106.68 cm"),  # 42 inches of 2.54 cm
        ("10 km to mi", "6.213712 mi"),
        ("90 min / 2 h", "0.75"),
        ("2 * 3 kg", "6 kg"),
    ],
)
def test_what_it_answers(query, result):
    assert Calculator()(query) == [result]


@pytest.mark.parametrize(
    "query",
    [
        "How old is Rafael Nadal?",
        "",
        "35",
        "3 kg",
        "1 / 0",
        "2 kg + 3 m",
        "3 kg in m",
        "2 kg * 3 kg",
        "1,2 + 3",  # a decimal comma, of which nothing is known
        "1,,2 + 1",
        "1,23 + 1",
        "1,2345 + 1",
        "1234,567 + 1",
        "1,234,56 + 1",
        "12, + 1",
        "1.5,2 + 1",
        "2 +",
        "(2 + 3",
        "2 apples + 3",
        "2 ^ 0.5",
        "__import__('os').getcwd()",
        "1 + (lambda: 2)()",
        "(" * 400 + "1" + ")" * 400,
        "(" * 200 + "1+1" + ")" * 200,
        "1" + "+1" * 400,
    ],
)
def test_what_is_no_calculation_has_no_answer(query):
    assert Calculator()(query) == []


def test_no_number_takes_long():
    begin = time.process_time()
    for query in ("9 ^ 9 ^ 9", "9 ^ 999999999999", "(9 ^ 1000) ^ 1000", "0.1 ^ 99999"):
        assert Calculator()(query) == []
    assert Calculator()("2 ^ 1000") == [str(2**1000)]
    assert time.process_time() - begin < 1
