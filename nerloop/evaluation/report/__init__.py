"""Report where a model errs: intervals, partial matches, kinds of errors, breakdowns; as text, JSON, and a page."""
