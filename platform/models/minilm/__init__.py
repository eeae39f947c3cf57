"""Sentence embeddings by all-MiniLM-L6-v2."""
