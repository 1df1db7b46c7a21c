"""How rows of batches are filled: one example each, packed, each continuing the one before."""
