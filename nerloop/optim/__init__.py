"""What a step does to the weights: AdamW, schedule, master weights, CUDA graphs."""
