"""Counts what came out: every record once, as a row or set apart; the files' footers and the hand-over object say the same."""
import glob, json, os, sys
import pyarrow.parquet

work, offered = sys.argv[1], json.loads(open(sys.argv[2]).read())


def lines(folder):
    """All rows of a folder of JSON, or of Parquet."""
    files = [f for f in glob.glob(os.path.join(work, folder, "**"), recursive=True) if os.path.isfile(f) and os.path.basename(f)[0] not in "._"]
    if all(open(f, "rb").read(4) == b"PAR1" for f in files):
        return [row for f in files for row in pyarrow.parquet.read_table(f).to_pylist()], len(files)
    return [json.loads(line) for f in files for line in open(f)], len(files)


def joined(pairs):
    """Sorted ranges, those that touch or overlap as one."""
    ranges = []
    for start, end in sorted(pairs):
        if ranges and start <= ranges[-1][1]:
            ranges[-1][1] = max(ranges[-1][1], end)
        else:
            ranges.append([start, end])
    return ranges


def parquet(folder):
    """All rows, the number of files, the ranges of all footers, and the files whose footer differs from their rows."""
    rows, footers, lying = [], {}, []
    files = [f for f in glob.glob(os.path.join(work, folder, "**"), recursive=True) if os.path.isfile(f) and os.path.basename(f)[0] not in "._"]
    for file in files:
        read = pyarrow.parquet.ParquetFile(file)
        footer = {key.decode(): value.decode() for key, value in read.metadata.metadata.items()}
        own = read.read().to_pylist()
        ranges = {}
        for row in own:
            source, start, length = row["kept"][1:25], *(int(part, 16) for part in row["kept"].split(".")[1:3])
            ranges.setdefault(source, []).append([start, start + length])
        said = json.loads(footer["isolane.ranges"])
        right = said == {source: joined(pairs) for source, pairs in ranges.items()} and footer["isolane.repeated"] == "0"
        if not right or int(footer["isolane.rows"]) != len(own):
            lying.append(file)
        for source, pairs in said.items():
            footers.setdefault(source, []).extend(pairs)
        rows += own
    return rows, len(files), footers, lying


def bytes_in(sources):
    return sum(end - start for ranges in sources.values() for start, end in ranges)


good, good_files, footers, lying = parquet("good")
apart, apart_files = lines("apart")
seen = [row["kept"] for row in good] + [row["il"] for row in apart]
bytes_of = sum(int(il.split(".")[2], 16) for il in seen)
newest = max(glob.glob(os.path.join(work, "hand-over", "*.json")), key=os.path.getmtime)
handed = json.load(open(newest))
ranges = [source["taken"] for source in handed["sources"].values()]
taken = sum(end - start for source in ranges for start, end in source)
apart_bytes = sum(int(row["il"].split(".")[2], 16) for row in apart)
found = {
    "good": len(good), "distinct ids": len({row["id"] for row in good}), "apart": len(apart),
    "distinct il": len(set(seen)), "bytes taken": taken, "bytes of rows": bytes_of,
    "sources": len(ranges), "ranges": sum(len(r) for r in ranges),
    "finished": sum(1 for source in handed["sources"].values() if source["finished"] is not None),
    "bytes in footers and apart": bytes_in(footers) + apart_bytes,
    "bytes in two footers": bytes_in(footers) - bytes_in({source: joined(pairs) for source, pairs in footers.items()}),
    "footers that differ from their rows": len(lying), "files": good_files + apart_files, "hand-over bytes": os.path.getsize(newest),
}
want = {
    "good": offered["records"] - offered["broken"], "distinct ids": offered["records"] - offered["broken"],
    "apart": offered["broken"], "distinct il": offered["records"], "bytes taken": offered["bytes"],
    "bytes of rows": offered["bytes"] - 50 * offered["marks"],
    "bytes in footers and apart": offered["bytes"] - 50 * offered["marks"],
    "bytes in two footers": 0, "footers that differ from their rows": 0, "sources": 8, "ranges": 8, "finished": 8,
}
bad = {key: (found[key], value) for key, value in want.items() if found[key] != value}
fates = {(row["fate"], row["cause"][:5]) for row in apart}
if fates != {("quarantined", "json:")}:
    bad["fates"] = fates
print(json.dumps({"offered": offered, "found": found}))
if len(sys.argv) > 3 and sys.argv[3] == "wait":
    sys.exit(0 if found["good"] >= want["good"] and found["apart"] >= want["apart"] else 1)
print("differs: " + str(bad) if bad else "as offered")
sys.exit(1 if bad else 0)
