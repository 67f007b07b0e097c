"""Wrong labels: where a model contradicts the labels of a file, the clearest contradictions first."""
