"""Manage a run: its folder, checkpoints, status and lock, its signals, its logs and metrics."""
