"""Plugins that turn logits and labels into the loss of a micro-batch."""
