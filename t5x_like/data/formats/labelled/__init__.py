"""Formats of rows that a head is asked about, and how its answers are read and compared."""
