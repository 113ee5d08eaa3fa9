"""The shell: Ray actors that carry out what the core decides (master, worker, persister) and ``launch``, which starts
them.

May know ``rayfs.core``, ``rayfs.metastore``, ``rayfs.understore``; the only rooms beside ``client``, ``testing`` and
the live source in ``admin`` that import ray. Invariant: no decision is made here, and no credential is held or passed
on.
"""
