"""The thinking of RayFS: pure state, events in and effects out.

May know ``rayfs.errors`` only. No Ray, S3, asyncio, threads, files or clock: time (seconds, a float) and randomness (a
``random.Random``) come in as arguments, so that the whole control plane runs in a unit test.
"""
