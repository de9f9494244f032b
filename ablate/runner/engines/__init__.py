"""Engines start workers. An engine knows nothing about trials: the store is the queue."""
