"""The drawn world with its truth, the judge that compares an edit with the true one, and the demo."""
