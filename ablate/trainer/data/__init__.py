"""Text and labels: from a hub, files or the built-in corpus, checked row by row, to token numbers on disk."""
