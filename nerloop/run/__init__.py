"""The folder of a run: checkpoints, status, lock, signals, tracking."""
