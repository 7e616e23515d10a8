"""Pictures: side-by-side videos, contact sheets, curves, captions."""
