"""Nothing of a tuning is lost: tuned weights in files of their own, and a folder that keeps tunings and inversions."""

from .tuned import apply_tuned, load_tuned, save_tuned

__all__ = ["apply_tuned", "load_tuned", "save_tuned"]
