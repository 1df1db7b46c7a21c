"""The engine: programs, training, data plumbing, partitioning, checkpoints."""
