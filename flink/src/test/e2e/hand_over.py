"""Counts what both engines delivered together: every record once, in files and in the topic; what footers and transactions say is disjoint."""
import glob, json, os, sys
import pyarrow.parquet

work, waits = sys.argv[1], len(sys.argv) > 2
offered = json.load(open(os.path.join(work, "offered.json")))


def place(il):
    """Source and range of a header."""
    start, length = (int(part, 16) for part in il.split(".")[1:3])
    return il[1:25], start, start + length


def joined(pairs):
    """Sorted ranges, those that touch or overlap as one."""
    ranges = []
    for start, end in sorted(pairs):
        if ranges and start <= ranges[-1][1]:
            ranges[-1][1] = max(ranges[-1][1], end)
        else:
            ranges.append([start, end])
    return ranges


def by_source(places):
    sources = {}
    for source, start, end in places:
        sources.setdefault(source, []).append([start, end])
    return sources


def total(sources):
    return sum(end - start for pairs in sources.values() for start, end in pairs)


def twice(sources):
    return total(sources) - total({source: joined(pairs) for source, pairs in sources.items()})


def same(one, other):
    return {source: joined(pairs) for source, pairs in one.items()} == {source: joined(pairs) for source, pairs in other.items()}


def parquet(pattern, column):
    """The rows of all files, the places that a column of theirs says, and what the footers say."""
    rows, footers = [], {}
    for file in glob.glob(os.path.join(work, pattern)):
        if os.path.basename(file)[0] in "._":
            continue
        read = pyarrow.parquet.ParquetFile(file)
        rows += read.read().to_pylist()
        for source, pairs in json.loads(read.metadata.metadata[b"isolane.ranges"]).items():
            footers.setdefault(source, []).extend(pairs)
    return rows, [place(row[column]) for row in rows], footers


def lines(name):
    return [line.rstrip("\n").split("\t") for line in open(os.path.join(work, name))]


def header(text):
    """The header il among those that kcat prints."""
    return next(pair[3:] for pair in text.split(",") if pair.startswith("il="))


def counted(rows, places, apart):
    """What every way must show: each record once, as a row or set apart, and none of nobody's."""
    seen = places + apart
    return {
        "rows": len(rows), "distinct ids": len({row["id"] for row in rows}), "set apart": len(apart), "distinct": len(set(seen)),
        "foreign": sum(not (0 < row["id"] <= offered["records"] and row["name"] == f"n{row['id']}") for row in rows),
        "bytes": total(by_source(seen)), "bytes twice": twice(by_source(seen)),
    }


here, here_places, here_footers = parquet("out/a.b.c/files/dt=*/hour=*/*", "kept")
there, there_places, there_footers = parquet("flink/files/dt=*/hour=*/*", "kept")
_, here_apart, _ = parquet("out/a.b.c/files/_quarantine/*", "il")
_, there_apart, _ = parquet("flink/set-apart/sink=*/*", "il")
footers = {source: here_footers.get(source, []) + there_footers.get(source, []) for source in {*here_footers, *there_footers}}
files = counted(here + there, here_places + there_places, here_apart + there_apart)
files |= {
    "footers as the rows": same(here_footers, by_source(here_places)) and same(there_footers, by_source(there_places)),
    "in two footers": twice(footers),
}

out = lines("out.tsv")
out_places = [place(header(headers)) for headers, _ in out]
told, told_rows = {}, 0
for text, in lines("ranges.ndjson"):
    one = json.loads(text)
    told_rows += one["rows"]
    for source, pairs in one["ranges"].items():
        told.setdefault(source, []).extend(pairs)
_, apart_of_topic, _ = parquet("flink/apart-of-topic/*", "il")
topic = counted([json.loads(value) for _, value in out], out_places, [place(header(text)) for text, in lines("quarantine.tsv")] + apart_of_topic)
whole = {source: joined(pairs) for source, pairs in told.items()}
within = [(source, start, end) for source, start, end in out_places if any(a <= start and end <= b for a, b in whole.get(source, []))]
topic |= {"told as the rows": len(within) == told_rows and same(told, by_source(within)), "told twice": twice(told)}

good, bytes_of = offered["records"] - offered["broken"], offered["bytes"] - 50 * offered["marks"]
want = {"rows": good, "distinct ids": good, "set apart": offered["broken"], "distinct": offered["records"], "foreign": 0,
        "bytes": bytes_of, "bytes twice": 0}
want_files = want | {"footers as the rows": True, "in two footers": 0}
want_topic = want | {"told as the rows": True, "told twice": 0}
if waits:
    sys.exit(0 if files["distinct"] >= offered["records"] and topic["distinct"] >= offered["records"] else 1)


def straddling():
    """Of each switch: the records that the one before it took, by 5 s, and that came again after it; and those in the failover cluster."""
    came = {}
    for cluster in ("normal", "failover"):
        for time, headers in lines(cluster + ".tsv"):
            if "il=" in headers:
                came.setdefault(header(headers), []).append((int(time), cluster))
    found = []
    for switch in map(int, open(os.path.join(work, "switches"))):
        again = [{cluster for time, cluster in times if time > switch} for times in came.values() if min(times)[0] < switch - 5_000]
        found.append([sum(bool(clusters) for clusters in again), sum("failover" in clusters for clusters in again)])
    return found


switches = straddling()
shares = {"files": [len(here), len(there)], "topic": [len(out) - told_rows, told_rows]}
print(json.dumps({"offered": offered, "files": files, "topic": topic, "rows of legs and of Flink": shares,
                  "straddling each switch, and in the failover cluster": switches}))
bad = {f"{way}: {key}": (found[key], value) for way, found, wanted in (("files", files, want_files), ("topic", topic, want_topic))
       for key, value in wanted.items() if found[key] != value}
if any(not both for pair in switches for both in pair):
    bad["straddling"] = switches
print("differs: " + str(bad) if bad else "as offered")
sys.exit(1 if bad else 0)
