"""Commit by rename: readers see all of a job's output or none of it, and S3 never sees the temporary names.

    python examples/commit_by_rename.py

On S3 itself a rename is a copy and a delete of every object. Here it is one commit in the metastore: the files are not
in S3 yet, and when they get there, they get there under their final names.
"""

from __future__ import annotations

import json
import uuid

import rayfs

TABLE = "/examples/daily"


def main() -> None:
    # Uploads that start some seconds late spare S3 the files that are renamed or removed at once.
    fs = rayfs.connect(persistence_wait="5s", replication_durable=2)
    attempt = f"/examples/_temporary/{uuid.uuid4().hex}"
    try:
        for part in range(4):
            with fs.open(f"{attempt}/part-{part}.json", "w") as file:
                json.dump({"part": part, "rows": list(range(part * 10, part * 10 + 10))}, file)
        if fs.exists(TABLE):
            fs.rm(TABLE, recursive=True)
        fs.mv(attempt, TABLE, recursive=True)
    except BaseException:
        fs.rm(attempt, recursive=True)
        raise
    print(f"committed {len(fs.ls(TABLE))} files by one rename")

    fs.persist(TABLE, wait=True, timeout=120)
    print("and they are in S3 under their final names")


if __name__ == "__main__":
    main()
