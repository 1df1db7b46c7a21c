import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_like.data.cache.example_proto import (
    decode_varints,
    encode_example,
    parse_example,
)
from t5x_like.errors import UserError

INT64 = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**31), INT64), min_size=1))
def test_integers_survive(values):
    record = encode_example({"a": np.array(values, np.int64)})
    assert parse_example(record)["a"].tolist() == values


def test_varints_of_the_specification():
    # https://protobuf.dev/programming-guides/encoding: 1 is 01, 150 is 96 01,
    # packed 3, 270, 86942 is 03 8e02 9ea705.
    for octets, values in (("01", [1]), ("9601", [150]), ("038e029ea705", [3, 270, 86942])):
        encoded = bytes.fromhex(octets)
        assert decode_varints(np.frombuffer(encoded, np.uint8)).tolist() == values
        assert encoded in encode_example({"a": np.array(values)})


def test_tensorflow_and_we_write_the_same_and_read_each_other():
    import seqio
    import tensorflow as tf

    rng = np.random.default_rng(0)
    example = {
        "targets": rng.integers(0, 32_100, 500).astype(np.int32),
        "empty": np.zeros(0, np.int32),
        "number": np.int64(-7),
        "score": np.float32(0.25),
        "text": "naïve".encode(),
        "words": [b"a", b"", b"c"],
    }
    theirs = seqio.dict_to_tfexample(example).SerializeToString(deterministic=True)
    assert (
        encode_example(
            {k: v if k in ("text", "words") else np.asarray(v) for k, v in example.items()}
        )
        == theirs
    )
    parsed = parse_example(theirs)
    assert parsed["targets"].tolist() == example["targets"].tolist()
    assert parsed["number"].tolist() == [-7]
    assert parsed["score"].tolist() == [0.25]
    assert parsed["text"] == ["naïve".encode()]
    assert parsed["words"] == [b"a", b"", b"c"]
    assert len(parsed["empty"]) == 0
    assert tf.train.Example.FromString(theirs).features.feature["number"].int64_list.value == [-7]


def test_unpacked_integers_are_read_too():
    # An Int64List of 5 and 6 as two fields 1 of wire type 0: 08 05 08 06.
    int64_list = bytes.fromhex("08050806")
    feature = b"\x1a" + bytes([len(int64_list)]) + int64_list
    entry = b"\x0a\x01a\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    record = b"\x0a" + bytes([len(features)]) + features
    assert parse_example(record)["a"].tolist() == [5, 6]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_example_or_a_clear_error(data):
    try:
        parse_example(data)
    except UserError as error:
        assert "no tf.train.Example" in str(error)
