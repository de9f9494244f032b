"""Ablation studies for fine-tuning: which choices help, by how much, how sure, at what cost."""

__version__ = "0.1.0"
