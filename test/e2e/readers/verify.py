"""Verifies that a table has each message exactly once: python verify.py TABLE. It shares nothing with the
connector but the documented form of what is in a table (docs/design.md, "What is persisted").

delta-rs opens the table and tells its version, files, txns and rows. The log is read here again, since delta-rs does not tell the
tags of files. Prints a line for each fault, "KIND: text", and exits with 1; else one line with the counts, and 0. The table may
be a folder or a location that STORAGE_OPTIONS tells how to reach, and may grow meanwhile: the newest version of the listing counts.
"""

import collections
import concurrent.futures
import json
import os
import re
import sys
import urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq

import tables

faults = []
lost = collections.Counter()  # offsets that Kafka had deleted before they were read, by the commits


def fault(kind, text):
    faults.append(f"{kind}: {text}")


def in_parallel(do, items):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(do, items))


def read_commit(files, version):
    return [json.loads(line) for line in files.read(f"_delta_log/{version:020}.json").decode().splitlines() if line.strip()]


class Log:
    """What the commits and, where those are gone, the newest log checkpoint say."""

    def __init__(self, files):
        self.checkpoint = -1
        self.checkpoints = set()
        self.adds = {}  # path -> add, of what is live
        self.txns = {}
        versions, last = self.look(files)
        if versions and len(versions) <= last - min(versions):  # put while it was listed, a version may show without the one before
            versions, last = self.look(files)
        if versions and versions[0] > 0:  # a put may have come late into the part of the log that was cleaned: no snapshot shows it
            run = last
            while run - 1 in versions:
                run -= 1
            oldest = min((c for c in self.checkpoints if c >= run - 1), default=0)
            versions = [v for v in versions if v >= oldest]
        self.commits = dict(zip(versions, in_parallel(lambda v: read_commit(files, v), versions)))  # version -> actions
        self.version = max(last, self.checkpoint)
        self.first = min(self.commits, default=self.checkpoint + 1)
        if self.first > 0:
            rows = pq.read_table(pa.BufferReader(files.read(f"_delta_log/{self.checkpoint:020}.checkpoint.parquet"))).to_pylist()
            for row in rows:
                add, txn = row.get("add"), row.get("txn")
                if add and add.get("path") is not None:
                    add["tags"] = dict(add.get("tags") or [])
                    self.adds[add["path"]] = add
                if txn and txn.get("appId") is not None:
                    self.txns[txn["appId"]] = txn["version"]
        self.base = dict(self.txns) if self.first > 0 else None
        self.start = self.checkpoint if self.first > 0 else -1  # versions after it are told by their commits
        for version in sorted(self.commits):
            if version > self.start:
                self.apply(self.commits[version])

    def look(self, files):
        """The versions that are there, and the newest; the newest log checkpoint."""
        versions = set()
        for base in files.names("_delta_log"):
            if re.fullmatch(r"\d{20}\.json", base):
                versions.add(int(base[:20]))
            elif re.fullmatch(r"\d{20}\.checkpoint\.parquet", base):
                self.checkpoints.add(int(base[:20]))
                self.checkpoint = max(self.checkpoint, int(base[:20]))
        return sorted(versions), max(versions, default=-1)

    def apply(self, actions):
        for action in actions:
            if "remove" in action:
                self.adds.pop(action["remove"]["path"], None)
        for action in actions:
            if "add" in action:
                self.adds[action["add"]["path"]] = action["add"]
            if "txn" in action:
                self.txns[action["txn"]["appId"]] = action["txn"]["version"]


def tag_of(add):
    text = (add.get("tags") or {}).get("kafkadelta.spans")
    return json.loads(text) if text else None


def units_of(actions):
    for action in actions:
        info = action.get("commitInfo") or {}
        if "kafkadelta" in info:
            if info["kafkadelta"].get("v") not in (1, 2, 3):
                fault("broken_record", f"spans of format {info['kafkadelta'].get('v')}")
                continue
            yield from info["kafkadelta"]["units"]


def stats_rows(add):
    return json.loads(add.get("stats") or "{}").get("numRecords")


def generation(txns, name):
    """How often the stream was rewound."""
    return (txns or {}).get(f"{name}#gen", 0)


def check_commits(log):
    """Each commit by itself: its files, tags and txns against its units. Returns all units with their version."""
    units = {}
    generations = {app: v for app, v in (log.base or {}).items() if app.endswith("#gen")}
    for version, actions in sorted(log.commits.items()):
        own = {u["unit"]: u for u in units_of(actions)}
        rows = collections.Counter()
        for action in actions:
            if "add" not in action or not own:
                continue
            add, tag = action["add"], tag_of(action["add"])
            if tag is None or tag["unit"] not in own:
                fault("lying_tag", f"{add['path']} in version {version} names no unit of it")
            elif tag != own[tag["unit"]]:
                fault("lying_tag", f"{add['path']} in version {version} has other spans than the commit")
            if tag is not None:
                rows[tag["unit"]] += stats_rows(add) or 0
        txns = {a["txn"]["appId"]: a["txn"]["version"] for a in actions if "txn" in a}
        if version > log.start:
            check_generations(version, own, txns, generations)
        for u in own.values():
            if u["unit"] in units:
                fault("overlap", f"unit {u['unit']} is in versions {units[u['unit']][0]} and {version}")
            units[u["unit"]] = (version, u)
            counted = sum(s["rows"] for s in u["spans"])
            if rows[u["unit"]] != counted:
                fault("row_count", f"version {version}: unit {u['unit']} has {rows[u['unit']]} rows in its files, {counted} in its spans")
            for s in u["spans"]:
                if s["next"] - s["first"] != s["records"] + s["gaps"] or not 0 <= s.get("lost", 0) <= s["gaps"]:
                    fault("broken_record", f"version {version}: the span {s} does not add up")
                if s["records"] != s["rows"] + s["skipped"] + s.get("dead", 0) + s.get("filtered", 0):
                    fault("broken_record", f"version {version}: the messages of the span {s} do not add up")
                if s.get("dead", 0) and f"{u['name']}#dl/{s['partition']}" not in txns:
                    fault("forged_txn", f"version {version}: no txn names the dead letters of the span {s}")
                lost[(u["name"], s["partition"])] += s.get("lost", 0)
                app = f"{u['name']}-{s['partition']}"
                if txns.get(app) != s["next"] - 1:
                    fault("forged_txn", f"version {version}: txn {app} is {txns.get(app)}, its span ends with {s['next'] - 1}")
    return units


def check_generations(version, own, txns, generations):
    """A rewind begins the next generation, and says what each partition had come to; every unit is of the one that runs."""
    for u in own.values():
        app = f"{u['name']}#gen"
        now = generations.get(app, 0)
        if u["gen"] != now + (1 if "rewind" in u else 0):
            fault("wrong_generation", f"version {version}: unit {u['unit']} is of generation {u['gen']}, and {now} was running")
        if "rewind" in u and txns.get(app) != u["gen"]:
            fault("forged_txn", f"version {version}: it rewinds to generation {u['gen']}, and txn {app} is {txns.get(app)}")
    for app, value in txns.items():
        if not app.endswith("#gen"):
            continue
        if value != generations.get(app, 0) and not any("rewind" in u and f"{u['name']}#gen" == app for u in own.values()):
            fault("forged_txn", f"version {version}: it moves txn {app} to {value}, and is no rewind")
        generations[app] = value


def taken_back(log, units):
    """Generations that a RESTORE to before their rewind has taken back, by stream and number, with the version that it went back to."""
    begun = {v: (u["name"], u["gen"]) for v, u in units.values() if "rewind" in u}
    taken, line, lines = {}, [], []
    for version, actions in sorted(log.commits.items()):
        info = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        if version in begun:
            line = line + [begun[version]]
        elif "RESTORE" in info.get("operation", "").upper():
            to = int(info.get("operationParameters", {}).get("version", -1))
            if to >= log.first:
                before, line = line, next(made for v, made in reversed(lines) if v <= to)
                taken.update({key: to for key in before if key not in line})
        lines.append((version, line))
    return {key: to for key, to in taken.items() if key not in line}


def check_tiling(log, units):
    """Units of commits, and of tags whose commits are gone, tile up to the txns, or to where the next generation's rewind found them.
    Returns the spans by stream, topic, partition and generation, and which offsets of these must have their rows: [since, until)."""
    spans = collections.defaultdict(list)
    pins, ends = {}, {}
    for version, u in units.values():
        for i, s in enumerate(u["spans"]):
            key = (u["name"], s["topic"], s["partition"], u["gen"])
            if u.get("pin"):
                pins[key] = s["first"]
            elif s["next"] > s["first"]:
                spans[key].append((s["first"], s["next"], version, u["unit"]))
            if "rewind" in u and u["rewind"]["from"][i] >= 0:
                ends[key[:3] + (u["gen"] - 1,)] = u["rewind"]["from"][i]
    due = {}
    taken = taken_back(log, units)
    for key in set(spans) | set(pins):
        gone = {k for k in set(spans) | set(pins) if (k[0], k[3]) in taken}
        later = [k for k in set(spans) | set(pins) if k[:3] == key[:3] and k[3] > key[3] and (key in gone or k not in gone)]
        since = 0
        if key in gone:  # what the version had that the table went back to
            to = taken[(key[0], key[3])]
            at = max((u["gen"] for v, u in units.values() if v <= to and u["name"] == key[0]), default=0)
            before = key[:3] + (at,)
            since = max([s[1] for s in spans[before] if s[2] <= to] + [pins.get(before, 0)]) if before in spans else pins.get(before, 0)
        due[key] = since, min((pins.get(k, min(spans[k], default=(float("inf"),))[0]) for k in later), default=float("inf"))
    for key in set(spans) | set(pins):
        app = f"{key[0]}-{key[2]}"
        mine = sorted(spans[key])
        at = pins.get(key, mine[0][0] if mine else 0)
        proven = 0  # before it a unit without files may be forgotten
        if log.base is not None and key[3] == generation(log.base, key[0]):
            proven = log.base.get(app, -1) + 1
        elif log.base is not None and key[3] < generation(log.base, key[0]):
            proven = float("inf")
        for first, after, version, unit in mine:
            if first > at and first > proven:
                fault("gap", f"{key}: [{max(at, proven)}, {first}) is missing before version {version}")
            if first < at:
                fault("overlap", f"{key}: [{first}, {min(at, after)}) is taken again by version {version}, unit {unit}")
            at = max(at, after)
        if key[3] >= generation(log.txns, key[0]) and log.txns.get(app) != at - 1:
            fault("forged_txn", f"{key}: txn {app} is {log.txns.get(app)}, the spans end with {at - 1}")
        if key[3] < generation(log.txns, key[0]) and ends.get(key, at) != at:
            fault("forged_txn", f"{key}: the rewind that ended it found it at {ends[key]}, the spans end before {at}")
    return spans, due


def forgotten(log, name=None):
    """Generations whose commits, and the rewinds that ended them, were cleaned from the log: of a stream, or of any. What they have taken is not
    known, but for what tags tell."""
    return range(max((v for app, v in (log.base or {}).items() if app.endswith("#gen") and name in (None, app[: -len("#gen")])), default=0))


def takers(log, units, place, offset):
    """The generations that may have taken an offset."""
    taken = {
        u["gen"]
        for _, u in units.values()
        for s in u["spans"]
        if (s["topic"], s["partition"]) == place and s["first"] <= offset < s["next"]
    }
    past = forgotten(log)
    return taken.union(past, [len(past)] if past else [])


def of_generation(log, units, place, seen, offset):
    """The generation that a row in a file of nobody's unit is of: the newest that may have taken the offset and lacks its row."""
    if all(u["gen"] == 0 for _, u in units.values()) and not forgotten(log):
        return 0
    taken = takers(log, units, place, offset)
    lacking = [gen for gen in taken if offset not in seen[place + (gen,)]]
    return max(lacking, default=max(taken, default=0))


def read_file(files, path):
    """Number of rows of a data file, and each row's place, where it tells; or what is wrong with it."""
    try:
        data = files.read(urllib.parse.unquote(path))
    except FileNotFoundError:
        return "missing_file", f"{path} is not there"
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if "_kafka" not in file.schema_arrow.names:
            return file.metadata.num_rows, None
        return file.metadata.num_rows, file.read(columns=["_kafka"]).column("_kafka").combine_chunks().to_pylist()
    except Exception as e:
        return "broken_file", f"{path}: {e}"


def check_files(files, log, units):
    """Files are there, have the rows that the log tells, and their offsets are in their units' spans, each once in a generation."""
    seen = collections.defaultdict(set)
    moved = collections.defaultdict(set)  # of the same, those in files of nobody's unit
    adds = dict(sorted(log.adds.items(), key=lambda item: tag_of(item[1]) is None))  # those of units first
    for (path, add), (rows, places) in zip(adds.items(), in_parallel(lambda path: read_file(files, path), adds)):
        if isinstance(rows, str):
            fault(rows, places)
            continue
        if stats_rows(add) is not None and stats_rows(add) != rows:
            fault("row_count", f"{path} has {rows} rows, the log says {stats_rows(add)}")
        tag = tag_of(add)
        if tag is not None and tag["unit"] not in units:
            if log.base is None:
                fault("lying_tag", f"{path} names unit {tag['unit']}, which is in no commit")
            else:
                units[tag["unit"]] = (-1, tag)
        for row in places or ():
            if row is None or row["offset"] is None:
                continue
            place, offset = (row["topic"], row["partition"]), row["offset"]
            if tag is not None and not any(
                (s["topic"], s["partition"]) == place and s["first"] <= offset < s["next"] for s in tag["spans"]
            ):
                fault("outside_span", f"{path} has offset {offset} of {place}")
            key = place + (tag["gen"] if tag is not None else of_generation(log, units, place, seen, offset),)
            if offset in seen[key]:
                fault("duplicate", f"offset {offset} of {key} is in two rows, one in {path}")
            seen[key].add(offset)
            if tag is None:
                moved[key].add(offset)
    return seen, moved


def earlier(log, units, seen, name, key, offset):
    """Whether a row that was moved may be of an earlier generation than it was taken for: one that lacks it, or of which too little is known."""
    return forgotten(log, name) or any(
        gen < key[2] and offset not in seen[key[:2] + (gen,)] for gen in takers(log, units, key[:2], offset)
    )


def check_rows(log, units, seen, moved, due):
    """Each span has as many rows as it counts: files that others have made in place of its own count too. What a later generation has
    taken again may be deleted; where it begins within the span, those below must be there: as many as the span counts, but for one at each offset above.
    Of a generation that a RESTORE has taken back, an earlier one has the rows that were there by then. A generation may have fewer rows than the one before had at the same offsets: moved rows beyond its own are that one's."""
    told = any(seen.values())  # else the rows do not tell their offsets
    for version, u in units.values():
        for s in u["spans"]:
            key = (s["topic"], s["partition"], u["gen"])
            there = sum(1 for o in range(s["first"], s["next"]) if o in seen[key])
            if there > s["rows"]:
                theirs = sum(1 for o in range(s["first"], s["next"]) if o in moved[key] and earlier(log, units, seen, u["name"], key, o))
                there = max(there - theirs, s["rows"])
            first, end, least = s["first"], s["next"], s["rows"]
            since, until = due.get((u["name"], s["topic"], s["partition"], u["gen"]), (first, end))
            if (since > first or until < end) and there < least:
                end = max(first, min(end, until))
                first = min(max(first, since), end)
                least -= s["next"] - s["first"] - (end - first)
                there = sum(1 for o in range(first, end) if o in seen[key])
            if told and (there < least or there > s["rows"]):
                fault("lost_rows" if there < least else "row_count",
                      f"version {version}: [{first}, {end}) of {s['topic']}[{s['partition']}] has {there} rows, {s['rows']} were counted in [{s['first']}, {s['next']})")


def main(location):
    files = tables.Files(location)
    log = Log(files)
    if log.commits and len(log.commits) <= log.version - log.first:
        fault("log", f"of the versions {log.first} to {log.version} only {len(log.commits)} are there")
    table = tables.table(location, log.version)
    theirs = {urllib.parse.unquote(os.path.basename(urllib.parse.urlparse(uri).path)) for uri in table.file_uris()}
    ours = {urllib.parse.unquote(os.path.basename(urllib.parse.unquote(path))) for path in log.adds}
    if {urllib.parse.unquote(n) for n in theirs} != ours:
        fault("log", f"delta-rs has other files: {sorted(theirs ^ ours)[:4]}")
    units = check_commits(log)
    seen, moved = check_files(files, log, units)
    spans, due = check_tiling(log, units)
    for app, version in log.txns.items():
        if table.transaction_version(app) != version:
            fault("forged_txn", f"delta-rs has txn {app} at {table.transaction_version(app)}, the log at {version}")
    check_rows(log, units, seen, moved, due)
    for line in faults:
        print(line)
    if not faults:
        print(f"ok: {sum(len(s) for s in seen.values())} rows, {sum(len(s) for s in spans.values())} spans of {len(spans)} partitions" + (f", {lost.total()} offsets lost" if lost.total() else ""))
    sys.stdout.flush()
    os._exit(1 if faults else 0)  # a regular end may abort: a thread of Arrow's pool can outlive what it needs


main(sys.argv[1])
