"""What of test sets is in training text, by n-grams of words."""
