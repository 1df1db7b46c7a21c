"""What to train: the best model for a budget, and the inverse questions."""
