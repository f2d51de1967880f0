"""Scoring: one checkpoint on one device, and the batching that keeps it busy. Knows nothing of SMTP."""
