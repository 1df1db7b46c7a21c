"""What reinforcement learning is given: tasks of prompts, and rules that reward answers."""
