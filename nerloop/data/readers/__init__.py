"""One reader per file format: a path and ReadOptions in, examples or texts with spans out."""
