"""Fused CPU kernels, and the modules of a model that use them."""
