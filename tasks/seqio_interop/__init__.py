"""Tasks and vocabularies of this package as seqio's, and seqio's as this package's.

Every module in here imports seqio, and with it TensorFlow; this file imports nothing.
"""
