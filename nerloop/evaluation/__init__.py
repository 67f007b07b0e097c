"""Tag with a saved model, score the predictions, find wrong labels, and write files, tables, reports and model card."""
