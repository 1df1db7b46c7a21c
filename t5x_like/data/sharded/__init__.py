"""Caches that need not fit on this machine, read shard by shard through a bounded store."""
