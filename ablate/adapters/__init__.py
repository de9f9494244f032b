"""Trainers of other libraries under the contract: each adapter is loaded only when it is named."""
