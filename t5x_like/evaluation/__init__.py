"""What can be measured of a model on a task: its loss, and what it generates."""
