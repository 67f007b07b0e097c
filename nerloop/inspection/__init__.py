"""What annotated data hold, and what is wrong with them, before a second is spent training."""
