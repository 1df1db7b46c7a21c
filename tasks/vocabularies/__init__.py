"""Vocabularies, from text to token ids and back: bytes and SentencePiece.

`tasks/tokenizer_json.py` has the vocabularies of Hugging Face's `tokenizer.json`.
"""

from tasks.vocabularies.byte_vocabulary import BYTE_SENTINELS, ByteVocabulary
from tasks.vocabularies.sentencepiece_training import train_on_task, train_sentencepiece
from tasks.vocabularies.sentencepiece_vocabulary import SentencePieceVocabulary
from tasks.vocabularies.vocabulary import PAD_ID, Vocabulary, check_is_file, until_eos

__all__ = [
    "BYTE_SENTINELS",
    "PAD_ID",
    "ByteVocabulary",
    "SentencePieceVocabulary",
    "Vocabulary",
    "check_is_file",
    "train_on_task",
    "train_sentencepiece",
    "until_eos",
]
