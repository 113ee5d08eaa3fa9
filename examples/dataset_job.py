"""A Ray job that writes a Parquet dataset at memory speed and lets S3 follow.

    rayfs start --nodes 4 --under-store s3://bucket/prefix      # or on your own Ray cluster
    python examples/dataset_job.py

Each task's ``close()`` returns when three nodes hold its file; nobody waits for the upload until ``persist``.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

import rayfs

PARTS, ROWS = 6, 50_000
DATASET = "/examples/trips"


@ray.remote
def write_part(fs: rayfs.RayFileSystem, part: int) -> str:
    """One part of the dataset. The file system travels into the task by itself."""
    trip = np.arange(part * ROWS, (part + 1) * ROWS)
    fare = np.random.default_rng(part).gamma(4.0, 5.0, ROWS)
    path = f"{DATASET}/part-{part:03}.parquet"
    with fs.open(path, "wb", replication_durable=3) as file:
        pq.write_table(pa.table({"trip": trip, "fare": fare}), file)
    return path


def main() -> None:
    fs = rayfs.connect()
    paths = ray.get([write_part.remote(fs, part) for part in range(PARTS)])
    dirty = sum(fs.status(path).persistence_state != "PERSISTED" for path in paths)
    print(f"{len(paths)} files are acknowledged; {dirty} of them are not in S3 yet")

    # Everything below the dataset is in S3 when this returns; a TimeoutError says what is left.
    fs.persist(DATASET, wait=True, timeout=120)
    print("all of them are in S3 now")

    table = pq.read_table(DATASET, filesystem=rayfs.arrow_filesystem())
    print(f"read back {table.num_rows} rows")


if __name__ == "__main__":
    main()
