"""Results on disk: tuned weights in single files, and a folder of tunings and inversions to resume or reuse."""

from .folder import StoreEntry
from .runs import StoredInversion, StoredTuning
from .store import Store
from .tuned import apply_tuned, load_tuned, save_tuned

__all__ = ["Store", "StoreEntry", "StoredInversion", "StoredTuning", "apply_tuned", "load_tuned", "save_tuned"]
