"""Vocabularies, from text to token ids and back: bytes, SentencePiece and words; and training them.

`tasks/tokenizer_json.py` has WordPiece and byte-level BPE, in Hugging Face's files.
"""

from tasks.vocabularies.byte_vocabulary import BYTE_SENTINELS, ByteVocabulary
from tasks.vocabularies.listed_texts import encode_each
from tasks.vocabularies.sentencepiece_training import train_sentencepiece
from tasks.vocabularies.sentencepiece_vocabulary import SentencePieceVocabulary
from tasks.vocabularies.special_pieces import encode_counted, encode_located
from tasks.vocabularies.spelled_words import SpelledWordVocabulary
from tasks.vocabularies.task_text import TaskText
from tasks.vocabularies.tokenizer_training import train_tokenizer
from tasks.vocabularies.vocabulary import PAD_ID, Offsets, Vocabulary, check_is_file, until_eos
from tasks.vocabularies.word_vocabulary import WordVocabulary, train_words

__all__ = [
    "BYTE_SENTINELS",
    "PAD_ID",
    "ByteVocabulary",
    "Offsets",
    "SentencePieceVocabulary",
    "SpelledWordVocabulary",
    "TaskText",
    "Vocabulary",
    "WordVocabulary",
    "check_is_file",
    "encode_counted",
    "encode_each",
    "encode_located",
    "train_sentencepiece",
    "train_tokenizer",
    "train_words",
    "until_eos",
]
