"""StructBERT (Wang et al. 2020): BERT that also puts words and sentences in order."""

from typing import ClassVar

from models.bert import BERT

SENTENCE_STRUCTURE = "sentence_structure"


class StructBERT(BERT):
    """BERT's network, with three labels for a pair; all else is what it is trained on.

    The head of pairs says of the second segment whether it follows the first (label 0), comes
    before it (1), or is of another document (2): its term is `sentence_structure` (section 2.3).
    Words that were shuffled are restored by the head for hidden tokens, and count in the mean of
    its term as hidden ones do (section 2.2). The fields that name the next sentence mean the head
    of pairs.
    """

    pair_term: ClassVar[str] = SENTENCE_STRUCTURE
    pair_classes: ClassVar[int] = 3
