"""Forms of dialogues: conversations, prompts, ranked answers, rated responses."""
