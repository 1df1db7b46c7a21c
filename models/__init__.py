"""Language models as pure functions: `layers`, then one file for each family."""
