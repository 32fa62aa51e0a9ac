"""Evaluation: errors in parameters and millimetres, similarity, and the results table."""

from radarbook.evaluation.metrics import baselines, evaluate

__all__ = ["baselines", "evaluate"]
