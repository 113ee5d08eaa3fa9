"""RayFS through the libraries you have: fsspec by URL, pandas by URL, pyarrow by file system object.

python examples/pandas_and_fsspec.py
"""

from __future__ import annotations

import fsspec
import pandas as pd

import rayfs


def main() -> None:
    # rayfs:///examples/note.txt and rayfs://examples/note.txt are the same path.
    with fsspec.open("rayfs:///examples/note.txt", "wt") as file:
        file.write("held by RayFS, on its way to S3\n")
    with fsspec.open("rayfs://examples/note.txt", "rt") as file:
        print(file.read(), end="")

    frame = pd.DataFrame({"city": ["Oslo", "Quito", "Hanoi"], "trips": [3, 5, 8]})
    # storage_options are what rayfs.connect takes: here every file of this call is on two nodes before it returns.
    frame.to_parquet("rayfs:///examples/cities.parquet", storage_options={"replication_durable": 2})
    back = pd.read_parquet("rayfs:///examples/cities.parquet")
    print(f"pandas read {len(back)} rows, {back['trips'].sum()} trips")

    fs = rayfs.connect()
    for entry in fs.ls("/examples", detail=True):
        if entry["type"] == "file":
            print(f"{entry['name']}: {entry['size']} bytes, {fs.status(entry['name']).persistence_state}")


if __name__ == "__main__":
    main()
