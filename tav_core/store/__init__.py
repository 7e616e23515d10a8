"""Nothing of a tuning is lost: tuned weights in files of their own, and a folder that keeps tunings and inversions."""

from .folder import StoreEntry
from .runs import StoredInversion, StoredTuning
from .store import Store
from .tuned import apply_tuned, load_tuned, save_tuned

__all__ = ["Store", "StoreEntry", "StoredInversion", "StoredTuning", "apply_tuned", "load_tuned", "save_tuned"]
