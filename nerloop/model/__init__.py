"""The encoder with its head: loading, what it supports, attention for packed sentences."""
