"""Bytes that survive: ordered keys and values, checked on every read, written in batches by one committer.

A leaf: it imports nothing of ours and knows no word of queues. Import what you need by its full path
(`storage.leveldb`, `storage.memory`, …); importing the package itself loads neither plyvel nor trio.
"""
