"""Fine-tuning of a few parameters: parts of a model, low-rank factors, adapters, prompts.

An object of these is the field `tuning` of any model. It adds parameters to the model's `Linear`s,
or vectors to its rows, by watching calls and not in equations, and says which parameters training
changes. The others are in no optimizer's state, and a run's checkpoints only name the one that has
them.
"""

from models.tuning.adapters import Adapters
from models.tuning.low_rank import LoRA
from models.tuning.parts import Before, Parts
from models.tuning.prompt import Prompt

__all__ = ["Adapters", "Before", "LoRA", "Parts", "Prompt"]
