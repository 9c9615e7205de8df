"""The sorted multiset of values as rows and a hash, from a published folder (read with pyarrow, an independent reader) or
from a plain file's lines.

usage: multiset.py parquet FOLDER COLUMN | multiset.py lines FILE
prints: {"rows": N, "sha256": "..."}; each value is hashed as its bytes and a newline.
"""

import hashlib
import json
import sys


def published(folder, column):
    import pyarrow.dataset

    # A plain reader leaves out names that begin with '_' or '.': drafts and quarantine.
    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table(columns=[column])
    return [str(value).encode() for value in table.column(column).to_pylist()]


def lines(path):
    with open(path, "rb") as file:
        return file.read().removesuffix(b"\n").split(b"\n")


values = sorted(published(*sys.argv[2:]) if sys.argv[1] == "parquet" else lines(*sys.argv[2:]))
digest = hashlib.sha256(b"".join(value + b"\n" for value in values)).hexdigest()
print(json.dumps({"rows": len(values), "sha256": digest}))
