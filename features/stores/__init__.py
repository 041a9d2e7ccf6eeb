"""Stores, each behind its port. Client libraries are imported here and nowhere else."""
