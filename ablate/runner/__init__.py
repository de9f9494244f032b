"""From cells to results: supervisor, workers, ownership, contexts, durable checkpoints. Knows no statistics."""
