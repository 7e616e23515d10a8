"""Nothing of a tuning is lost: tuned weights in files of their own, and a folder that keeps tunings and inversions."""

from .folder import StoreEntry
from .store import Store, StoredTuning
from .tuned import apply_tuned, load_tuned, save_tuned

__all__ = ["Store", "StoreEntry", "StoredTuning", "apply_tuned", "load_tuned", "save_tuned"]
