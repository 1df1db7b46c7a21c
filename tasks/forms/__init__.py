"""Forms: how a row of a source becomes the text of the features.

A form is a frozen dataclass, called with one row: `{column: value}` to `{feature: text}`. It
runs before the cache is written, in plain Python.
"""

from tasks.forms.chat import ChatTemplate, Message
from tasks.forms.choices import Choices
from tasks.forms.dialogue.comparison import Comparison
from tasks.forms.dialogue.conversation import Conversation
from tasks.forms.dialogue.prompt import Prompt
from tasks.forms.dialogue.rated import Rated
from tasks.forms.few_shot import FewShot
from tasks.forms.form import Form, PlainText, WritesInputs, text_of, texts_of, written
from tasks.forms.labelled import Labelled
from tasks.forms.options import Options, ranked_question
from tasks.forms.ranked import Ranked
from tasks.forms.similarity import Similarity
from tasks.forms.spans import Spans
from tasks.forms.squad import Squad
from tasks.forms.super_glue.multirc import MultiRC
from tasks.forms.super_glue.record import Record
from tasks.forms.super_glue.winograd import DefinitePronoun, Wsc
from tasks.forms.super_glue.wnli import Wnli
from tasks.forms.tags import Tags
from tasks.forms.template import Template

__all__ = [
    "ChatTemplate",
    "Choices",
    "Comparison",
    "Conversation",
    "DefinitePronoun",
    "FewShot",
    "Form",
    "Labelled",
    "Message",
    "MultiRC",
    "Options",
    "PlainText",
    "Prompt",
    "Ranked",
    "Rated",
    "Record",
    "Similarity",
    "Spans",
    "Squad",
    "Tags",
    "Template",
    "Wnli",
    "WritesInputs",
    "Wsc",
    "ranked_question",
    "text_of",
    "texts_of",
    "written",
]
