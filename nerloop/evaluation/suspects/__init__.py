"""Find wrong labels: places where a model contradicts the labels of a file, the clearest contradictions first."""
