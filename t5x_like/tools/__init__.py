"""Tools that a model can consult while it answers: a text in, a list of texts out.

`Calculator()` and `Retrieval(files)` are here; a tool of your own is any function of one text that
returns a list of texts, empty where it has nothing to say.
"""

from t5x_like.tools.calculator import Calculator
from t5x_like.tools.research import Research, Researched, Tool
from t5x_like.tools.retrieval import Retrieval

__all__ = ["Calculator", "Research", "Researched", "Retrieval", "Tool"]
