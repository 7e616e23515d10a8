"""Measurements that back the figures in README.md and docs/LOG.md."""
