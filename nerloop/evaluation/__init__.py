"""Predict with a model, score the predictions, and present both: files, tables, model card."""
