"""Counts what both engines have delivered together: every record that was offered once, in files and in the topic."""
import glob, json, os, sys
import pyarrow.parquet

work, stream, in_journal = sys.argv[1], sys.argv[2], int(sys.argv[3])
offered = list(range(int(open(os.path.join(work, "offered")).read())))


def rows(root):
    files = [f for f in glob.glob(os.path.join(work, root, stream, "files/**"), recursive=True) if os.path.isfile(f)]
    files = [f for f in files if f.endswith(".parquet") or os.path.basename(f).startswith(("part-", "compacted-"))]
    return [row["id"] for f in files for row in pyarrow.parquet.ParquetFile(f).read(columns=["id"]).to_pylist()]


embedded, flink = rows("data/out"), rows("out")
topic = [json.loads(json.loads(line)["payload"])["id"] for line in open(os.path.join(work, "topic.ndjson"))]
legs = json.load(open(os.path.join(work, "ledger.json")))["legs"]
found = {
    "copies came": in_journal > len(offered), "both wrote": min(len(embedded), len(flink)) > 0, "files": sorted(embedded + flink) == offered, "topic": sorted(topic) == offered,
    "in flight and missing": [leg["in_flight"] + leg["missing"] for leg in legs], "failures": [leg["failure"] for leg in legs],
}
want = {"copies came": True, "both wrote": True, "files": True, "topic": True, "in flight and missing": [0, 0], "failures": [None, None]}
bad = {key: (found[key], value) for key, value in want.items() if found[key] != value}
print(f"{len(offered)} records: {len(embedded)} rows in files of the embedded engine, {len(flink)} in Flink's; {len(topic)} in the topic")
print(f"copies in the journal: {in_journal - len(offered)}")
print(f"ids twice: {len(embedded + flink) - len(set(embedded + flink))} in files, {len(topic) - len(set(topic))} in the topic")
print("differs: " + str(bad) if bad else "as offered")
sys.exit(1 if bad else 0)
