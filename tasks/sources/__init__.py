"""Sources of text: frozen dataclasses that a gin file can name.

A source reads nothing until rows are asked for. Local files need no TensorFlow; `seqio()` gives
the same rows as a `seqio.DataSource`.
"""

from tasks.sources.candidates import Candidates
from tasks.sources.conll_columns import ConllColumns
from tasks.sources.hold_out import HoldOut
from tasks.sources.json_lines import JsonLines
from tasks.sources.parallel_files import ParallelFiles
from tasks.sources.parquet import ParquetFiles
from tasks.sources.source import Source
from tasks.sources.squad_json import SquadJson
from tasks.sources.standard_library import StandardLibraryFunctions, StandardLibraryModules
from tasks.sources.tab_separated import CommaSeparated, TabSeparated
from tasks.sources.text_files import TextFiles
from tasks.sources.tfds import Tfds

__all__ = [
    "Candidates",
    "CommaSeparated",
    "ConllColumns",
    "HoldOut",
    "JsonLines",
    "ParallelFiles",
    "ParquetFiles",
    "Source",
    "SquadJson",
    "StandardLibraryFunctions",
    "StandardLibraryModules",
    "TabSeparated",
    "TextFiles",
    "Tfds",
]
