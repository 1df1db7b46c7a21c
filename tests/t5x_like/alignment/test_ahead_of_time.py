"""The programs of an iteration, lowered for devices without a state on them."""

import jax
import jax.numpy as jnp
import pytest

from models.actor_critic import ActorCritic
from models.gpt import GPT2
from t5x_like import optimizers
from t5x_like.alignment import PPO
from t5x_like.alignment.ahead_of_time import AlignmentPrograms
from t5x_like.errors import UserError
from t5x_like.schedules import Constant

POLICY = GPT2(
    vocab_size=8, embed_dim=8, num_heads=2, num_layers=1, max_length=16, input_attention="causal"
)
NAMES = ("decoder_input_tokens", "decoder_positions", "decoder_segment_ids")
PROMPTS = {name: jax.ShapeDtypeStruct((8, 3), jnp.int32) for name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("program", ["rollout", "update"])
def test_both_programs_are_lowered_and_their_flops_counted(program, partitioner):
    programs = AlignmentPrograms(
        max_new_tokens=4, program=program, algorithm=PPO(epochs=3, minibatches=2)
    )
    model = ActorCritic(policy=POLICY)
    optimizer = optimizers.adamw(Constant(0.1))
    lowered = programs.lower(model, optimizer, partitioner, PROMPTS)
    assert "while" in lowered.as_text()  # drawing is a loop, and so are updates
    # Rows of three prompt tokens and four new ones, the last of which is never read.
    once = POLICY.step_flops({"decoder_input_tokens": (8, 6)})
    times = {"rollout": 1 / 3, "update": 2 / 3 + 3}[program]
    shapes = {name: (8, 3) for name in NAMES}
    assert programs.model_flops(model, shapes) == pytest.approx(once * times, rel=1e-6)


def test_what_does_not_learn_from_rewards_is_refused(partitioner):
    with pytest.raises(UserError, match="GPT2 does not learn from rewards"):
        AlignmentPrograms(max_new_tokens=4).lower(
            POLICY, optimizers.adamw(Constant(0.1)), partitioner, PROMPTS
        )
    with pytest.raises(UserError, match="PROGRAM is 'both': 'update' or 'rollout'"):
        AlignmentPrograms(max_new_tokens=4, program="both")
