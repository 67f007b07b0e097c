"""Compare configurations over seeds: run them, read what the runs left, and tell differences from luck."""
