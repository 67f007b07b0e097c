"""The launch: Accelerator, precision, threads, collectives."""
