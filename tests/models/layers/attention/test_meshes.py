"""Attention on meshes: the same numbers as on one device, and what travels."""

import json

import pytest

from tests.models.layers.attention.mesh_worker import CASES, H


@pytest.fixture(scope="module")
def report(program):
    done = program("-m", "tests.models.layers.attention.mesh_worker")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_rows_that_are_divided_give_results_and_gradients_of_one_device(report, case):
    assert report["divided_rows"][case]["difference"] < 1e-5


def test_heads_are_traded_where_they_divide_and_nothing_is_where_they_do_not(report):
    exchanges = {case: found["exchanges"] for case, found in report["divided_rows"].items()}
    assert exchanges.pop("more devices than heads") == []  # its keys were everywhere
    assert all("all-to-all" in kinds for kinds in exchanges.values())


def test_memory_grows_with_the_length_alone(report):
    """Scores of whole rows would be four times as many."""
    assert report["temporaries"]["4096"] < 2.2 * report["temporaries"]["2048"]


def test_the_gradient_of_a_relative_bias_travels_once_as_its_table(report):
    """It would be `[h, 16, 16]` for each of three layers."""
    assert report["bias"]["difference"] < 1e-4
    assert report["bias"]["bytes"] == [8 * H * 4]
