"""Words by their characters."""
