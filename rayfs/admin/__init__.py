"""Admin: pictures of a running cluster, and where they come from. The CLI's operator verbs and the console stand on it.

Knows the core's snapshot types and the client's way to find a cluster. Only ``live`` imports ray, and only when it is
asked for a picture, so a console on a recorded or simulated cluster starts without it.

    from rayfs.admin.live import LiveSource
    snapshot = LiveSource(None).snapshot()

Invariant: a source returns one whole ``ClusterSnapshot`` or raises ``ClusterUnreachable``; it never blocks for longer
than its time limit and never becomes part of the cluster.
"""
