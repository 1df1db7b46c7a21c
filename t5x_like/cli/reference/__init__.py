"""What gin files can name, described from types and docstrings."""
