"""Low-rank factors in the format of `peft`, as runs of ours and back."""
