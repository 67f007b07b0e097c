"""One reader per file format: text or bytes in, examples out."""
