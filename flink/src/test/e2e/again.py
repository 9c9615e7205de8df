"""Holds the files of a stream that was deleted and created again at once against what both its lives were offered: each record
once, none hidden; says what differs."""
import collections, glob, json, os, sys
import pyarrow.parquet

work, offered = sys.argv[1:]
found = [f for f in glob.glob(os.path.join(work, "out/shop.web.clicks/files/**"), recursive=True, include_hidden=True) if os.path.isfile(f)]
files = [f for f in found if os.path.basename(f)[0] not in "._"]
ids = collections.Counter(i for f in files for i in pyarrow.parquet.ParquetFile(f).read(["id"])["id"].to_pylist())
records = [json.loads(line) for line in open(offered) if line.endswith("}\n")]
want = {record["id"] for record in records if record["id"] % 10 != 0 and record["id"] % 1000 != 11}
bad = {
    "missing": len(want - ids.keys()), "twice": sum(1 for count in ids.values() if count > 1),
    "hidden": sum(os.path.basename(f).startswith(".uncompacted-") for f in found),
}
print(f"{len(want)} rows of both lives offered, {len(ids)} in {len(files)} files: {bad}")
sys.exit(1 if any(bad.values()) else 0)
