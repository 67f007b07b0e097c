"""Inspect annotated data before training: what they contain, and what is odd about them."""
