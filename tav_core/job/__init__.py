"""One edit as data, and the function that runs it."""

from .job import EditJob
from .run import EditReport, run_edit

__all__ = ["EditJob", "EditReport", "run_edit"]
