"""One reader for each file format. It takes a path and ReadOptions and yields examples, or texts with spans."""
