"""Records of modules that carry names of their own, and are in no list."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from models.layers.intermediates import COLLECTION, collect, recorded, within


class Tide(nn.Module):
    """A layer that adds its factor, and shows what it read."""

    is_layer: ClassVar[bool] = True

    factor: float

    @recorded("levels", lambda x: x * 10)
    def rise(self, x):
        return x + self.factor

    def __call__(self, x):
        return self.rise(x)


class Rock(nn.Module):
    """A layer that shows nothing."""

    is_layer: ClassVar[bool] = True

    def __call__(self, x):
        return x * 2


class Coast(nn.Module):
    """Up: rock and tide in turn, three times by a scan; down: tide, then two turns of a tide."""

    def setup(self):
        self.cliff, self.bay = Rock(), Tide(1.0)
        self.ebb, self.neap = Tide(-1.0), Tide(100.0)

    def __call__(self, x):
        return self.down(self.up(x))

    @within("shore")
    def up(self, x):
        def turn(module, x, _):
            return module.bay(module.cliff(x)), None

        return nn.scan(turn, variable_axes={COLLECTION: 0}, length=3)(self, x, None)[0]

    @within("sea")
    @recorded("start", lambda x: x)
    def down(self, x):
        return self.neap(self.neap(self.ebb(x)))


def records(kind, model=None, x=0.0):
    model = model or Coast()
    run = lambda: model.apply({}, jnp.float32(x), mutable=[COLLECTION])[1]  # noqa: E731
    return [(r.within, r.layer, float(r.value)) for r in collect(kind, run)]


def test_a_record_has_its_side_its_layer_and_its_value():
    """From 0: doubled and raised by 1 gives 1, 3, 7; rock is layer 0, 2, 4 of the shore."""
    shore = [record for record in records("levels") if record[0] == ("shore",)]
    assert shore == [(("shore",), 1, 0.0), (("shore",), 3, 20.0), (("shore",), 5, 60.0)]


def test_layers_that_are_no_scan_are_counted_in_the_order_of_their_calls():
    sea = [record for record in records("levels") if record[0] == ("sea",)]
    assert sea == [(("sea",), 0, 70.0), (("sea",), 1, 60.0), (("sea",), 2, 1060.0)]


def test_outside_of_layers_there_is_no_number():
    assert records("start") == [(("sea",), None, 7.0)]


def test_what_nobody_asks_for_is_not_computed():
    assert records("depths") == []
    result, kept = Coast().apply({}, jnp.float32(0), mutable=[COLLECTION])
    assert result == 206 and not kept
