"""Compare configurations over seeds and search settings: train the runs, read their files, test the differences."""
