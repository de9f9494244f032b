"""The database: safe opening, trials (only `store` imports optuna), our long-form tables, read-only queries."""
