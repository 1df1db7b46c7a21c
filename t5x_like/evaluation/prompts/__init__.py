"""What stands before the examples that are measured: worked ones, and how all of it is read."""
