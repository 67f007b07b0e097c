"""Find labels that are probably wrong: places where a model contradicts the labels of a file, ranked."""
