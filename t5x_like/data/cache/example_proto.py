"""`tf.train.Example` without TensorFlow: written by protobuf, read by a parser of its wire format.

An Example is a map from names to a list of bytes, of floats or of integers. protobuf hands a
list of integers over one Python object at a time, which is fast enough to write a cache once. In
training, the varints of a whole list are decoded by NumPy, ten times as fast for a document of
some thousand tokens.

Source: https://protobuf.dev/programming-guides/encoding and
`tensorflow/core/example/{example,feature}.proto`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from t5x_like.errors import UserError

BYTES, FLOAT, INT64 = 1, 2, 3  # field numbers of `Feature`'s kinds
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types

Values = np.ndarray | list[bytes]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    position += 1
    if value < 128:
        return value, position
    value &= 127
    shift = 7
    while True:
        octet = data[position]
        position += 1
        value |= (octet & 127) << shift
        if octet < 128:
            return value, position
        shift += 7


def _fields(data: bytes, position: int, stop: int) -> list[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop) of each field in a message."""
    found = []
    while position < stop:
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _LENGTH:
            size, position = _varint(data, position)
            end = position + size
        elif wire == _VARINT:
            _, end = _varint(data, position)
        elif wire == _FIXED32:
            end = position + 4
        elif wire == _FIXED64:
            end = position + 8
        else:
            raise ValueError(f"wire type {wire}")
        if end > stop:
            raise ValueError("a field is longer than its message")
        found.append((tag >> 3, wire, position, end))
        position = end
    return found


def feature_spans(record: bytes) -> dict[str, tuple[int, int, int]]:
    """Where each feature's list lies in a serialized Example: name -> (kind, start, stop).

    The kind is BYTES, FLOAT or INT64, or 0 for a feature that is empty.

    Raises:
      ValueError: the bytes are not an Example.
    """
    spans = {}
    for number, _, start, stop in _fields(record, 0, len(record)):
        if number != 1:
            continue
        for number_of_entry, _, entry, entry_stop in _fields(record, start, stop):
            if number_of_entry != 1:
                continue
            name, kind = "", (0, 0, 0)
            for part, _, a, b in _fields(record, entry, entry_stop):
                if part == 1:
                    name = record[a:b].decode("utf-8")
                elif part == 2:
                    for number_of_kind, _, c, d in _fields(record, a, b):
                        kind = (number_of_kind, c, d)
            spans[name] = kind
    return spans


def payload(record: bytes, span: tuple[int, int, int]) -> tuple[int, int]:
    """Start and stop of a packed list of numbers inside its feature (equal when empty)."""
    fields = _fields(record, span[1], span[2])
    if not fields:
        return span[1], span[1]
    if len(fields) > 1 or fields[0][:2] != (1, _LENGTH):
        raise ValueError("a list of numbers is not packed")
    return fields[0][2], fields[0][3]


def decode_varints(octets: np.ndarray) -> np.ndarray:
    """Integers of a packed varint list.

    Args:
      octets: uint8, beginning and ending where varints do.

    Returns:
      int32 where no varint has more than four bytes, else int64.
    """
    last = octets < 128
    if last.all():
        return octets.astype(np.int32)
    ends = np.flatnonzero(last)
    longest = max(int(ends[0]) + 1, int((ends[1:] - ends[:-1]).max(initial=1)))
    short = longest <= 4
    kind = np.int32 if short else np.uint64
    values: np.ndarray = octets[ends].astype(kind)
    low: np.ndarray = (octets & 127).astype(kind)
    group = np.asarray(7, kind)
    # Horner's rule from the most significant byte, which is the last, downwards.
    more = np.ones(ends.size, bool)
    for back in range(1, longest):
        at = ends - back
        more &= ~last[at]  # at -1, before the first varint, stands the last octet, an end
        values = np.where(more, (values << group) | low[at], values)
    return values if short else values.view(np.int64)


def decode(record: bytes, span: tuple[int, int, int]) -> Values:
    """The values of one feature: int32 or int64, float32, or a list of bytes."""
    kind, start, stop = span
    if kind == INT64:
        fields = _fields(record, start, stop)
        if len(fields) == 1 and fields[0][1] == _LENGTH:
            return decode_varints(np.frombuffer(record, np.uint8)[fields[0][2] : fields[0][3]])
        values = [_varint(record, a)[0] for _, _, a, _ in fields]
        return np.array(values, np.uint64).view(np.int64)
    if kind == FLOAT:
        parts = [record[a:b] for _, _, a, b in _fields(record, start, stop)]
        return np.frombuffer(b"".join(parts), "<f4")
    return [record[a:b] for _, _, a, b in _fields(record, start, stop)]


def parse_example(record: bytes, names: Sequence[str] | None = None) -> dict[str, Values]:
    """A serialized Example as NumPy arrays and lists of bytes.

    Args:
      record: the serialized message.
      names: features to decode; None decodes all.

    Returns:
      Each feature that is there; an empty one is an empty list.

    Raises:
      UserError: the bytes are not an Example.
    """
    try:
        spans = feature_spans(record)
        return {
            name: decode(record, span)
            for name, span in spans.items()
            if names is None or name in names
        }
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(
            f"a record of {len(record)} bytes is no tf.train.Example: {error}"
        ) from None


@functools.cache
def _message_class() -> Any:
    """`tf.train.Example` as a protobuf class.

    In a pool of its own, because TensorFlow registers the same messages in the shared one.

    Source: `tensorflow/core/example/{example,feature}.proto`; names do not enter the bytes.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="example", syntax="proto3"
    )

    def declare(message: Any, name: str, number: int, kind: int | str, **more: Any) -> None:
        scalar = isinstance(kind, int)
        message.field.add(
            name=name,
            number=number,
            type=kind if scalar else field.TYPE_MESSAGE,
            type_name=None if scalar else f".example.{kind}",
            **{"label": field.LABEL_OPTIONAL, **more},
        )

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    repeated = {"label": field.LABEL_REPEATED}
    for name, scalar in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        declare(message(name), "value", 1, scalar, **repeated)
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    declare(feature, "bytes_list", BYTES, "BytesList", oneof_index=0)
    declare(feature, "float_list", FLOAT, "FloatList", oneof_index=0)
    declare(feature, "int64_list", INT64, "Int64List", oneof_index=0)
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    declare(entry, "key", 1, field.TYPE_STRING)
    declare(entry, "value", 2, "Feature")
    declare(features, "feature", 1, "Features.FeatureEntry", **repeated)
    declare(message("Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("example.Example"))


def encode_example(features: Mapping[str, Values | bytes | str]) -> bytes:
    """A serialized Example, its features in the order of their names.

    Args:
      features: integers (or bools) and floats as arrays of any shape (flattened), text as
        bytes, str or a list of bytes.

    Raises:
      TypeError: an array of another dtype.
    """
    example = _message_class()()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            value = value.encode("utf-8")
        if isinstance(value, bytes):
            value = [value]
        if isinstance(value, list):
            kind = feature.bytes_list
        elif value.dtype.kind in "iub":
            kind, value = feature.int64_list, value.astype(np.int64).ravel()
        elif value.dtype.kind == "f":
            kind, value = feature.float_list, value.astype(np.float32).ravel()
        else:
            raise TypeError(f"feature {name!r} has dtype {value.dtype}, not bytes, float or int")
        kind.SetInParent()  # an empty list has a kind too
        kind.value.extend(value if isinstance(value, list) else value.tolist())
    return bytes(example.SerializeToString(deterministic=True))
