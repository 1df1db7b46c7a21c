"""What a bound value can be of, where a function is given that is not called yet."""

from collections.abc import Sequence

import pytest

from t5x_like.config.binding_types import Reference, fits


class Task:
    pass


class Mixture:
    pass


def task() -> Task:
    return Task()


def either() -> Task | Mixture:
    return Task()


def perhaps() -> Task | None:
    return None


def nothing() -> None:
    pass


def unsaid():  # deliberately without an annotation
    return 1


@pytest.mark.parametrize(
    ("function", "annotation", "right"),
    [
        (task, Task, True),
        (task, Mixture, False),
        (task, Task | Mixture, True),
        (either, Task, True),
        (either, Mixture, True),
        (either, int, False),
        (perhaps, Task, True),
        (perhaps, int | None, True),
        (perhaps, int, False),
        (nothing, Task, False),
        (unsaid, Task, True),
    ],
)
def test_a_call_fits_where_one_of_its_annotated_values_does(function, annotation, right):
    assert fits(Reference(function, called=True), annotation) == right


def test_a_list_of_pairs_is_looked_into():
    rates = Sequence[tuple[Task, float]]
    assert fits([(Reference(either, called=True), 1.0), (Reference(task, called=True), 2)], rates)
    assert not fits([(Reference(nothing, called=True), 1.0)], rates)
