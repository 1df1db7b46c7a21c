"""The tokenized cache: written once, verified, and read by number of the example."""
