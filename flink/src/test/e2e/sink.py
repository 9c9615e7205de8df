"""Counts what a reader of committed records finds: every record once, as a row or set apart, and the ranges topics say the same."""
import glob, json, os, sys

work, offered = sys.argv[1], json.loads(open(sys.argv[2]).read())


def lines(topic):
    return [json.loads(line) for line in open(os.path.join(work, topic + ".ndjson"))]


def headers(record):
    return dict(zip(record["headers"][::2], record["headers"][1::2]))


def joined(pairs):
    """Sorted ranges, those that touch or overlap as one."""
    ranges = []
    for start, end in sorted(pairs):
        if ranges and start <= ranges[-1][1]:
            ranges[-1][1] = max(ranges[-1][1], end)
        else:
            ranges.append([start, end])
    return ranges


def total(sources):
    return sum(end - start for ranges in sources.values() for start, end in ranges)


def of_rows(records):
    """The ranges of rows by source, and how many ordinals are there twice."""
    sources = {}
    for record in records:
        il = headers(record)["il"]
        start, length = (int(part, 16) for part in il.split(".")[1:3])
        sources.setdefault(il[1:25], []).append([start, start + length])
    whole = {source: joined(pairs) for source, pairs in sources.items()}
    return whole, total(sources) - total(whole)


def of_ranges(records):
    """The ranges that are told, how many ordinals are told twice, and of how many rows they are."""
    sources, rows = {}, 0
    for record in records:
        told = json.loads(record["payload"])
        rows += told["rows"]
        assert told["repeated"] == 0 and told["format"] == "isolane.delivered.1", told
        for source, pairs in told["ranges"].items():
            sources.setdefault(source, []).extend(pairs)
    whole = {source: joined(pairs) for source, pairs in sources.items()}
    return whole, total(sources) - total(whole), rows


good, apart = lines("good"), lines("apart")
good_ranges, good_twice = of_rows(good)
apart_ranges, apart_twice = of_rows(apart)
good_told, good_told_twice, good_told_rows = of_ranges(lines("good.ranges"))
apart_told, apart_told_twice, apart_told_rows = of_ranges(lines("apart-holds"))
handed = json.load(open(max(glob.glob(os.path.join(work, "hand-over", "*.json")), key=os.path.getmtime)))
taken = sum(end - start for source in handed["sources"].values() for start, end in source["taken"])
values = [json.loads(record["payload"]) for record in good]


def is_as_asked(record, value):
    own = {name: text for name, text in headers(record).items() if name != "il"}
    want = {"n": value["name"], **({"even": "yes"} if value["id"] % 2 == 0 else {})}
    return record["key"] == value["name"] and own == want and record["headers"][0] == "il" and set(value) == {"id", "name"}


written = {topic: int(open(os.path.join(work, topic + ".written")).read()) for topic in ("good", "good.ranges", "apart", "apart-holds")}
found = {
    "good": len(good), "distinct ids": len({value["id"] for value in values}), "apart": len(apart),
    "rows twice": good_twice + apart_twice, "told twice": good_told_twice + apart_told_twice,
    "rows told": [good_told_rows, apart_told_rows],
    "ranges as the rows": [good_told == good_ranges, apart_told == apart_ranges],
    "bytes of good and apart": total(good_told) + total(apart_told), "bytes taken": taken,
    "keys and headers": sum(is_as_asked(record, value) for record, value in zip(good, values)),
    "causes": sum(headers(record)["cause"].startswith("json: ") for record in apart),
    "records of ranges": len(lines("good.ranges")) + len(lines("apart-holds")),
    "aborted rows": written["good"] + written["apart"] - len(good) - len(apart),
}
rows = offered["records"] - offered["broken"]
want = {
    "good": rows, "distinct ids": rows, "apart": offered["broken"], "rows twice": 0, "told twice": 0,
    "rows told": [rows, offered["broken"]], "ranges as the rows": [True, True],
    "bytes of good and apart": offered["bytes"] - 50 * offered["marks"], "bytes taken": offered["bytes"],
    "keys and headers": rows, "causes": offered["broken"],
}
bad = {key: (found[key], value) for key, value in want.items() if found[key] != value}
if found["aborted rows"] == 0:
    bad["aborted rows"] = "no transaction was ever aborted, so nothing was tried"
print(json.dumps({"offered": offered, "found": found}))
print("differs: " + str(bad) if bad else "as offered")
sys.exit(1 if bad else 0)
