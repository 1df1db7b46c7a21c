"""Sources of text: frozen dataclasses that a gin file can name.

A source reads nothing until rows are asked for. Local files need no TensorFlow; `seqio()` gives
the same rows as a `seqio.DataSource`.
"""

from tasks.sources.conll_columns import ConllColumns
from tasks.sources.json_lines import JsonLines
from tasks.sources.parallel_files import ParallelFiles
from tasks.sources.parquet import ParquetFiles
from tasks.sources.source import Source, check_files, said
from tasks.sources.squad_json import SquadJson
from tasks.sources.standard_library import (
    StandardLibraryFunctions,
    StandardLibraryModules,
    StandardLibraryNames,
)
from tasks.sources.synthetic import Brackets, ClozeQuestions, Opinions, PerturbedSentences
from tasks.sources.tab_separated import CommaSeparated, TabSeparated
from tasks.sources.text_files import TextFiles
from tasks.sources.tfds import Tfds
from tasks.sources.wrappers.candidates import Candidates
from tasks.sources.wrappers.deduplicated import Deduplicated
from tasks.sources.wrappers.dialogues import Dialogues, PreferredDialogues
from tasks.sources.wrappers.each_answer import EachAnswer
from tasks.sources.wrappers.filtered import Filter, Filtered
from tasks.sources.wrappers.hold_out import HoldOut
from tasks.sources.wrappers.rated_responses import RatedResponses
from tasks.sources.wrappers.where import Where

__all__ = [
    "Brackets",
    "Candidates",
    "ClozeQuestions",
    "CommaSeparated",
    "ConllColumns",
    "Deduplicated",
    "Dialogues",
    "EachAnswer",
    "Filter",
    "Filtered",
    "HoldOut",
    "JsonLines",
    "Opinions",
    "ParallelFiles",
    "ParquetFiles",
    "PerturbedSentences",
    "PreferredDialogues",
    "RatedResponses",
    "Source",
    "SquadJson",
    "StandardLibraryFunctions",
    "StandardLibraryModules",
    "StandardLibraryNames",
    "TabSeparated",
    "TextFiles",
    "Tfds",
    "Where",
    "check_files",
    "said",
]
