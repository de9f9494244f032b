"""The database: opening it safely, trials (the only room that imports optuna), our long-form tables, read-only queries."""
