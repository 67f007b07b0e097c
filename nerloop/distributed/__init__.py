"""Distributed training: the Accelerator, precision, CPU threads, collectives."""
