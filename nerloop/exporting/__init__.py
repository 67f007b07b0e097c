"""Export a saved model to other runtimes, and compare the export with the original."""
