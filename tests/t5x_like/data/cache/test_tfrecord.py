import numpy as np
import pytest

from t5x_like.data.cache.tfrecord import RecordFile, masked_crc32c, write_records
from t5x_like.errors import UserError


def test_tensorflow_reads_what_is_written_and_writes_the_same(tmp_path):
    import tensorflow as tf

    records = [b"", b"a", b"four", bytes(1000), np.arange(999).tobytes()]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert write_records(ours, records) == 5
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in records:
            writer.write(record)
    assert ours.read_bytes() == theirs.read_bytes()
    assert [r.numpy() for r in tf.data.TFRecordDataset(str(ours))] == records


def test_records_in_any_order(tmp_path):
    path = tmp_path / "x.tfrecord"
    records = [bytes([i]) * i for i in range(50)]
    write_records(path, records)
    file = RecordFile(path)
    assert len(file) == 50
    assert [file[i] for i in (49, 0, 7)] == [records[49], records[0], records[7]]


def test_an_empty_file_has_no_records(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.touch()
    assert len(RecordFile(path)) == 0


# A record of 10 bytes takes 8 + 4 + 10 + 4 = 26: the records begin at 0, 26, 52.
@pytest.mark.parametrize("cut", [1, 12, 25])
def test_a_file_cut_inside_a_record_names_the_byte(tmp_path, cut):
    path = tmp_path / "x.tfrecord"
    write_records(path, [b"0123456789"] * 3)
    path.write_bytes(path.read_bytes()[: 52 + cut])
    with pytest.raises(UserError, match=r"x\.tfrecord is corrupt at byte 52: .* cut off at \d+"):
        RecordFile(path)


@pytest.mark.parametrize(
    ("byte", "what"), [(26, "length"), (33, "length"), (34, "length"), (40, "data"), (49, "data")]
)
def test_a_flipped_bit_names_the_record(tmp_path, byte, what):
    path = tmp_path / "x.tfrecord"
    write_records(path, [b"0123456789"] * 3)
    data = bytearray(path.read_bytes())
    data[byte] ^= 64
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"corrupt at byte 26: the checksum of a record's {what}"):
        RecordFile(path)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="gone is missing"):
        RecordFile(tmp_path / "gone")


def test_offsets_are_kept_and_made_again_when_the_file_changes(tmp_path):
    path, index = tmp_path / "x.tfrecord", tmp_path / ".x.index"
    write_records(path, [b"one", b"two"])
    RecordFile(path, index)
    assert index.exists()
    assert len(RecordFile(path, index)) == 2
    write_records(path, [b"one", b"two", b"three"])
    file = RecordFile(path, index)
    assert [file[i] for i in range(3)] == [b"one", b"two", b"three"]
    index.write_bytes(b"rubbish")
    assert len(RecordFile(path, index)) == 3


def test_masking_is_the_one_of_tfrecord():
    # crc32c.h: ((crc >> 15) | (crc << 17)) + 0xa282ead8, on the crc of 32 zero bytes, which is
    # 0x8A9136AA in RFC 3720, appendix B.4:
    # 0x8A9136AA >> 15 = 0x11522, << 17 = 0x6D540000; sum 0x6D551522; + 0xA282EAD8 = 0x0FD7FFFA.
    assert masked_crc32c(bytes(32)) == 0x0FD7FFFA
