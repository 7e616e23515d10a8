"""Measuring edits with files and pages around it; `metrics/` defines the measures themselves.

measure.py   the figures of one edit
dataset.py   which edits a data set holds
report.py    pages and tables
"""

from .dataset import Item, read_dataset
from .measure import Encoders, Evaluation, evaluate, format_table, mean_figures

__all__ = ["Encoders", "Evaluation", "Item", "evaluate", "format_table", "mean_figures", "read_dataset"]
