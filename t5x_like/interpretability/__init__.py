"""What can be seen inside a model: attention maps, and the routing of tokens to experts."""

from t5x_like.interpretability.attention_maps import AttentionMaps, attention_maps
from t5x_like.interpretability.routing import Routing, routing

__all__ = ["AttentionMaps", "Routing", "attention_maps", "routing"]
