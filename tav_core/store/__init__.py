"""Results on disk: tuned weights in single files, and a folder of tunings and inversions to resume or reuse."""

from .runs import Run, StoredInversion
from .store import Store
from .tuned import apply_tuned, load_tuned, save_tuned

__all__ = ["Run", "Store", "StoredInversion", "apply_tuned", "load_tuned", "save_tuned"]
