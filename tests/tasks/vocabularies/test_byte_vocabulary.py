"""UTF-8 bytes as ids; `seqio_interop/test_to_seqio.py` compares them with seqio's."""

from tasks import vocabularies


def test_byte_ids_are_utf8_plus_three():
    # "é" is C3 A9 in UTF-8: 195 + 3 and 169 + 3.
    vocabulary = vocabularies.ByteVocabulary()
    assert vocabulary.encode("é\n") == [198, 172, 13]
    assert vocabulary.decode([198, 172, 13]) == "é\n"


def test_the_default_has_byt5s_384_ids():
    vocabulary = vocabularies.ByteVocabulary()
    assert vocabulary.vocab_size == 3 + 256 + 125 == 384
    assert vocabulary.spec()["extra_ids"] == 125


def test_decoding_stops_at_eos_and_leaves_out_special_ids():
    assert vocabularies.ByteVocabulary().decode([0, 2, 100, 383, 101, 1, 102]) == "ab"


def test_broken_utf8_is_left_out():
    # 0xC3 begins a character of two bytes that never comes.
    assert vocabularies.ByteVocabulary().decode([100, 198, 101]) == "ab"
