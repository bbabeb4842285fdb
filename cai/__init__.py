"""`cai`: a constitution in plain text, an AI judge that reads it, and a controlled comparison with human labels."""

__version__ = "0.1.0"
