"""Build a training from the settings, keep its state, and finish it: everything around the loop in train.py."""
