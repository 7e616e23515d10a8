"""One-shot tuning: its settings, its loss, its loop, and the state from which it resumes."""
