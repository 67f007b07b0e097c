"""From a model and features to predictions, metrics and tables."""
