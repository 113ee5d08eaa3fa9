"""The persistent object store behind RayFS: one interface, S3 and a local directory behind it.

May know ``rayfs.core``'s types and ``rayfs.errors``; no Ray, no namespace, no retries (the reconciler in
``rayfs.core`` decides what to send again). Invariant: no key ever holds a partial object, whatever dies in the
middle.
"""
