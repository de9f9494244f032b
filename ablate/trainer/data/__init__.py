"""Text and labels from a hub, files or the built-in corpus: read, checked row by row, tokenized and cached."""
