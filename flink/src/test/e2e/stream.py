"""Holds files, topic, ledger and status of a stream on Flink against what was offered; says what differs."""
import glob, json, os, sys
import pyarrow.parquet

work, legs_are, state, delivered = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
lines = open(os.path.join(work, "offered"), "rb").read().splitlines(keepends=True)
whole = [json.loads(line) for line in lines if line.endswith(b"}\n")]
broken = len(lines) - len(whole)


def parquet(folder):
    files = [f for f in glob.glob(os.path.join(work, "out/shop.web.clicks", folder, "**"), recursive=True) if os.path.isfile(f)]
    files = [f for f in files if os.path.basename(f)[0] not in "._"]
    return [row for f in files for row in pyarrow.parquet.ParquetFile(f).read().to_pylist()], files


def headers(record):
    pairs = record.get("headers", [])
    return {name: value for name, value in zip(pairs[::2], pairs[1::2]) if name != "il"}


rows, files = parquet("files")
apart, _ = parquet("set-apart")
topic = [json.loads(line) for line in open(os.path.join(work, "topic.ndjson"))]
ledger = json.load(open(os.path.join(work, "ledger.json")))
legs = {leg["leg"]: leg for leg in ledger["legs"]}
folders = {os.path.relpath(os.path.dirname(f), os.path.join(work, "out/shop.web.clicks/files")) for f in files}
size = sum(len(line) for line in lines)
failing, failing_topic = ([record for record in whole if record["id"] % 1000 == rest] for rest in (11, 13))
passing = [record for record in whole if record["id"] % 1000 != 13]
filtered = [record for record in whole if record["id"] % 10 != 0 and record["id"] % 1000 != 11]
hours = sorted({f"dt=2026-03-01/hour={record['at_'][11:13]}" for record in filtered})
found = {
    "rows of files": sorted((row["id"], row["name"]) for row in rows) == sorted((r["id"], r["name"].upper()) for r in filtered),
    "folders": sorted(folders),
    "announced": sorted(f for f in folders if os.path.exists(os.path.join(work, "out/shop.web.clicks/files", f, "_SUCCESS"))),
    "records of the topic": sorted((record["key"], record["payload"]) for record in topic)
    == sorted((r["name"], json.dumps({"id": r["id"]}, separators=(",", ":"))) for r in passing),
    "headers": all(headers(record) == ({"even": "yes"} if json.loads(record["payload"])["id"] % 2 == 0 else {}) for record in topic),
    "set apart": len(apart), "delivered to files": legs["files"]["fates"]["delivered"],
    "delivered to the topic": legs["topic"]["fates"]["delivered"],
    "causes": sorted({row["cause"] for row in apart if not row["cause"].startswith("json: ")})
    == sorted(f"CAST: '{record['name']}' is no INT" for record in failing + failing_topic),
    "quarantined": [legs[name]["fates"]["quarantined"] for name in ("files", "topic")],
    "collected": ledger["collected"]["acknowledged"], "taken": [leg["taken"] for leg in legs.values()],
    "in flight and missing": [leg["in_flight"] + leg["missing"] for leg in legs.values()],
    "failures": [leg["failure"] for leg in legs.values()], "status": state, "delivered by status": delivered,
}
want = {
    "rows of files": True, "folders": hours, "announced": hours[:-1], "records of the topic": True, "headers": True, "set apart": broken * {"together": 1, "separate": 2}[legs_are] + len(failing) + len(failing_topic),
    "delivered to files": len(filtered), "delivered to the topic": len(passing), "causes": True, "quarantined": [broken + len(failing), broken + len(failing_topic)], "collected": size,
    "taken": [size] * 2, "in flight and missing": [0, 0], "failures": [None, None], "status": "running",
    "delivered by status": len(filtered) + len(passing),
}
bad = {key: (found[key], value) for key, value in want.items() if found[key] != value}
print(f"offered {len(lines)} records, {size} bytes, {broken} broken: {len(rows)} rows in {len(files)} files, {len(topic)} in the topic")
print("differs: " + str(bad) if bad else "as offered")
sys.exit(1 if bad else 0)
