"""What starts workers. An engine knows nothing of trials: the store is the queue."""
