"""Counts what came out: every record once, as a row or set apart, and the hand-over object says the same."""
import glob, json, os, sys

work, offered = sys.argv[1], json.loads(open(sys.argv[2]).read())


def lines(folder):
    files = [f for f in glob.glob(os.path.join(work, folder, "*")) if os.path.basename(f)[0] not in "._"]
    return [json.loads(line) for f in files for line in open(f)], len(files)


good, good_files = lines("good")
apart, apart_files = lines("apart")
seen = [row["il"] for row in good + apart]
bytes_of = sum(int(il.split(".")[2], 16) for il in seen)
newest = max(glob.glob(os.path.join(work, "hand-over", "*.json")), key=os.path.getmtime)
handed = json.load(open(newest))
ranges = [source["taken"] for source in handed["sources"].values()]
taken = sum(end - start for source in ranges for start, end in source)
found = {
    "good": len(good), "distinct ids": len({row["id"] for row in good}), "apart": len(apart),
    "distinct il": len(set(seen)), "bytes taken": taken, "bytes of rows": bytes_of,
    "sources": len(ranges), "ranges": sum(len(r) for r in ranges),
    "finished": sum(1 for source in handed["sources"].values() if source["finished"] is not None),
    "files": good_files + apart_files, "hand-over bytes": os.path.getsize(newest),
}
want = {
    "good": offered["records"] - offered["broken"], "distinct ids": offered["records"] - offered["broken"],
    "apart": offered["broken"], "distinct il": offered["records"], "bytes taken": offered["bytes"],
    "bytes of rows": offered["bytes"] - 50 * offered["marks"], "sources": 8, "ranges": 8, "finished": 8,
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
