"""Ablation studies for training: which choices help, by how much, how sure we are, and at what cost."""

from ablate.study import Study, open_study, plan, run

__version__ = "0.1.0"
__all__ = ["Study", "open_study", "plan", "run"]
