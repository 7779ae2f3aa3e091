"""Runs the connector and its peers over one topic, one after the other, and checks that every row of every table is right.

    python3 bench/peers/run.py --brokers localhost:9092 [--messages 2000000] [--rounds 3] [--peers connector,python-loop]

from the repository's root, beside a running Kafka broker. Needs Go, and Python 3 with venv; for kafka-delta-ingest git, cargo, cmake and a C
compiler; for Spark Java 17. What is fetched and built, Spark's packages included, stands in the cache folder and is used again; none of it is in a
figure. Each peer gets a new consumer group and a new table, partitioned by date, on the local disk. docs/benchmarks.md says how to read the
figures and has some.

All commit half a million rows at a time, and write Parquet with zstd, as far as they can be told: kafka-delta-ingest can't, and goes by bytes or
seconds, with Snappy. So each run also has its commits and the bytes of its data files.

The warm figure, messages/s from the first commit to the last, leaves the start out, and what a JVM takes until it is compiled; use --messages 10000000 to have one worth reading.

A figure's CPU seconds are those of the process and all its children, as the kernel counts them when they end, or, of children that nobody waits for, as they were seen last,
every 20 ms. Memory is the most that they had together at such a look, or that one of them ever had, if that is more (VmHWM). Wall time goes from the process's start to
its end; start-up (of a JVM, say) is in it, and for the connector and kafka-delta-ingest, which join a group, what the broker has a new group wait
(group.initial.rebalance.delay.ms, which is recorded). kafka-delta-ingest does not end by itself with all its rows written: it is stopped
when the table has all rows, and its wall time ends with the commit before the last, which only waits for a timer; messages/s
count the rows until there. The warm figure ends with that commit, too.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KDI_SOURCE = "https://github.com/delta-io/kafka-delta-ingest"
KDI_COMMIT = "c6d42de"
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
COMMIT_ROWS = 500_000  # of one commit, for whoever can be told: about 128 MiB of messages
LATENCY = 10  # seconds between commits, for kafka-delta-ingest, which can't: the connector's default

CONFIG = """
name: {group}
source: {{brokers: [{brokers}], topic: {topic}}}
table:
  uri: {table}
  create: if_missing
  schema: "meta STRUCT<producer: STRUCT<timestamp: STRING>>, method STRING, session_id STRING, status INT, url STRING, uuid STRING, date DATE"
  partition_by: [date]
  columns: {{date: {{from: meta.producer.timestamp, cast: date}}}}
http: {{listen: "127.0.0.1:0"}}
lanes: {lanes}
flush: {{rows: {rows}, bytes: 4GiB, interval: 10m}}
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Tree(threading.Thread):
    """Watches a process and its descendants: their CPU seconds, and the most memory that they had at one time."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.seconds, self.peak, self.done = pid, {}, 0, threading.Event()
        self.before = ended_children()
        self.start()

    def run(self):
        while not self.done.wait(0.02):
            resident = 0
            for pid in self.members():
                try:
                    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    most = re.search(r"VmHWM:\s*(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
                except OSError:
                    continue
                if most:  # a process that is ending has none
                    self.peak = max(self.peak, int(most[1]) << 10)
                self.seconds[pid] = (int(stat[11]) + int(stat[12])) / TICK
                resident += int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
            self.peak = max(self.peak, resident)

    def members(self):
        todo, found = [self.pid], []
        while todo:
            pid = todo.pop()
            found.append(pid)
            try:  # a process, or one of its threads, may end meanwhile
                for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    todo += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
        return found

    def end(self):
        """Returns the CPU seconds and the peak, once the process has been waited for."""
        self.done.set()
        self.join()
        return max(sum(self.seconds.values()), ended_children() - self.before), self.peak


def ended_children():
    """CPU seconds of all children, and theirs, that have ended and been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commits_of(table):
    """The rows that each version of a table's log adds, by file, and when it was written."""
    for entry in sorted((table / "_delta_log").glob("*.json")):
        adds = [json.loads(line).get("add") for line in entry.read_text().splitlines()]
        yield [json.loads(add["stats"])["numRecords"] for add in adds if add], entry.stat().st_mtime


def warm(table, messages):
    """Messages/s from the first commit with rows to the last that a run's wall time has in it, the one by which the table has so many rows: without
    the start, and without what a JVM takes to get going. None for less than three."""
    commits, total = [], 0
    for rows, at in commits_of(table):
        if rows and total < messages:
            total += sum(rows)
            commits.append((sum(rows), at))
    if len(commits) < 3:
        return None
    return sum(rows for rows, _ in commits[1:]) / (commits[-1][1] - commits[0][1])


class Peer:
    """One of the programs. A subclass says how it is built and started."""

    name = version = settings = ""

    def __init__(self, o):
        self.o = o

    def build(self):
        pass

    def prepare(self, table):
        pass

    def command(self, table, work):
        raise NotImplementedError

    def wait(self, process, table, begun):
        """Returns the wall seconds, and how many messages they stand for (None: all)."""
        if process.wait():
            raise SystemExit(f"{self.name} ended with {process.returncode}; see {self.o.log}")
        return time.monotonic() - begun, None

    def run(self, work):
        table = work / "table"
        self.prepare(table)
        with open(self.o.log, "ab") as log:
            begun = time.monotonic()
            process = subprocess.Popen(self.command(table, work), cwd=ROOT, stdout=log, stderr=log, env=self.environment())
            tree = Tree(process.pid)
            try:
                seconds, messages = self.wait(process, table, begun)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                cpu, peak = tree.end()
        self.check(table)
        messages = messages or self.o.messages
        made = {"warm": warm(table, messages), "commits": sum(1 for adds, _ in commits_of(table) if adds), "table_bytes": sum(f.stat().st_size for f in table.rglob("*.parquet"))}
        return {"peer": self.name, "seconds": seconds, "messages": messages, "cpu_seconds": cpu, "peak_rss_bytes": peak, **made}

    def environment(self):
        return os.environ

    def check(self, table):
        """Compares every row with the messages, as bags."""
        subprocess.run([self.o.python, HERE / "check.py", self.o.lines, table], check=True, stdout=sys.stderr)


class Connector(Peer):
    name = "connector"
    settings = f"{COMMIT_ROWS:,} rows a commit (default: 128 MiB of Parquet in a lane, or {LATENCY} s); else the defaults: Kafka metadata column on, zstd"

    def build(self):
        self.binary = self.o.cache / "connector"
        subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", self.binary, "./cmd/connector"], cwd=ROOT, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
        self.version = subprocess.check_output(["git", "describe", "--always", "--dirty", "--exclude", "*"], cwd=ROOT, text=True).strip()

    def command(self, table, work):
        config = work / "connector.yaml"
        quoted = ", ".join(json.dumps(b) for b in self.o.brokers.split(","))
        lanes = os.cpu_count()  # the default; flush.rows is of one of them
        config.write_text(
            CONFIG.format(
                group=f"peers-{time.time_ns()}", brokers=quoted, topic=self.o.topic, table=json.dumps(str(table)), lanes=lanes, rows=COMMIT_ROWS // lanes
            )
        )
        return [self.binary, "run", "-c", config, "--until-end"]


class KafkaDeltaIngest(Peer):
    name = "kafka-delta-ingest"
    settings = f"--allowed_latency {LATENCY} (default: 300), --max_messages_per_batch 50000 (default: 5000), --min_bytes_per_file 128 MiB (default); Snappy"

    def build(self):
        self.version = KDI_COMMIT
        source = self.o.cache / f"kafka-delta-ingest-{KDI_COMMIT}"
        self.binary = source / "target" / "release" / "kafka-delta-ingest"
        if self.binary.exists():
            return
        if not source.exists():
            subprocess.run(["git", "clone", KDI_SOURCE, source], check=True)
        subprocess.run(["git", "checkout", "--quiet", KDI_COMMIT], cwd=source, check=True)
        shutil.copy(HERE / "kafka-delta-ingest.lock", source / "Cargo.lock")  # it has none of its own
        # One of its two clouds has to be chosen; the table here is on the local disk.
        subprocess.run(["cargo", "build", "--release", "--locked", "--features", "azure"], cwd=source, check=True)

    def prepare(self, table):
        text = "import deltalake, shape, pyarrow as pa; deltalake.DeltaTable.create(%r, shape.arrow(pa.string()), partition_by=['date'])"
        subprocess.run([self.o.python, "-c", text % str(table)], cwd=HERE, check=True)

    def command(self, table, work):
        group = f"kdi-{time.time_ns()}"
        flags = ["--kafka", self.o.brokers, "--consumer_group", group, "--app_id", group, "--auto_offset_reset", "earliest"]
        flags += ["--allowed_latency", str(LATENCY), "--max_messages_per_batch", "50000"]
        return [self.binary, "ingest", self.o.topic, table, *flags, "--transform", "date: substr(meta.producer.timestamp, `0`, `10`)"]

    def wait(self, process, table, begun):
        """Until the table has all rows. The last commit comes when a timer runs out, so the figures end with the one before."""
        rows, version, commits = 0, 1, []
        while rows < self.o.messages:
            if process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {process.returncode}; see {self.o.log}")
            entry = table / "_delta_log" / f"{version:020}.json"
            if not entry.exists():
                time.sleep(0.01)
                continue
            adds = [json.loads(line).get("add") for line in entry.read_text().splitlines()]
            rows += sum(json.loads(add["stats"])["numRecords"] for add in adds if add)
            version += 1
            commits.append((time.monotonic() - begun, rows))
        process.send_signal(signal.SIGKILL)  # it handles no signal
        process.wait()
        if len(commits) < 2:
            raise SystemExit(f"{self.name} has made one commit, which waited for its timer of {LATENCY} s: that is no figure; use more --messages")
        return commits[-2]


class Spark(Peer):
    name = "spark"

    def build(self):
        self.version = "Spark 4.0.1, Delta 4.0.0"
        self.settings = f"local[{os.cpu_count()}], availableNow, {COMMIT_ROWS:,} messages a batch, 2 GB for the driver, zstd"
        self.jars = self.o.cache / "ivy" / "jars"
        if not self.jars.exists():
            packages = [self.o.python, HERE / "spark_packages.py", self.o.cache / "ivy"]
            subprocess.run(packages, check=True, stdout=sys.stderr, env=self.environment())

    def command(self, table, work):
        jars = ",".join(map(str, sorted(self.jars.glob("*.jar"))))
        program = [self.o.python, HERE / "spark_stream.py", self.o.brokers, self.o.topic, table]
        return [*program, work / "checkpoint", str(os.cpu_count()), str(COMMIT_ROWS), jars]

    def environment(self):
        return {**os.environ, "PYSPARK_PYTHON": self.o.python}


class PythonLoop(Peer):
    name, settings, more = "python-loop", f"{COMMIT_ROWS:,} messages a commit; else the defaults: Snappy", []
    version = "confluent-kafka 2.16.1, pyarrow 26.0.1, deltalake 1.6.6"

    def command(self, table, work):
        return [self.o.python, HERE / "python_loop.py", self.o.brokers, self.o.topic, table, str(COMMIT_ROWS), *self.more]


class TunedPythonLoop(PythonLoop):
    name, settings, more = "tuned-loop", f"{COMMIT_ROWS:,} messages a commit, fetches of 64 MiB and queues of 256 MiB, zstd", ["tuned"]


class Reader(Peer):
    name, settings = "read only", "franz-go as it comes, nothing is done with the messages"

    def build(self):
        self.binary = self.o.cache / "bench"
        subprocess.run(["go", "build", "-trimpath", "-o", self.binary, "./bench"], cwd=ROOT, check=True)

    def command(self, table, work):
        return [self.binary, "read", "-brokers", self.o.brokers, "-messages", str(self.o.messages), "-partitions", str(self.o.partitions)]

    def check(self, table):
        pass


PEERS = {p.name: p for p in (Connector, KafkaDeltaIngest, Spark, PythonLoop, TunedPythonLoop, Reader)}


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--brokers", default="localhost:9092")
    p.add_argument("--messages", type=int, default=2_000_000)
    p.add_argument("--partitions", type=int, default=4)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--peers", default=",".join(PEERS), help="of: %(default)s")
    p.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache" / "kafkadelta-peers")
    p.add_argument("-o", "--output", type=pathlib.Path, help="file for the results (default: a new one in bench/results)")
    o = p.parse_args()
    o.peers = [name.strip() for name in o.peers.split(",")]
    for name in o.peers:
        if name not in PEERS:
            p.error(f"peer {name!r} is not known: use {', '.join(PEERS)}")
    return o


def main():
    o = options()
    o.cache.mkdir(parents=True, exist_ok=True)
    o.log = o.cache / "peers.log"
    make = [sys.executable, ROOT / "test" / "e2e" / "readers" / "makevenv.py", o.cache, HERE / "requirements.txt"]
    o.python = subprocess.check_output(make, text=True).strip()
    peers = [PEERS[name](o) for name in o.peers]
    for peer in peers:
        say(f"building {peer.name}")
        peer.build()
    o.delay = rebalance_delay(o)
    o.lines = o.cache / f"web_requests-{o.messages}.jsonl"
    fill = ["go", "run", "./bench", "fill", "-brokers", o.brokers, "-messages", str(o.messages), "-partitions", str(o.partitions)]
    o.topic = subprocess.check_output([*fill, "-lines", o.lines], cwd=ROOT, text=True).strip()
    runs = []
    for n in range(o.rounds):
        for k in range(len(peers)):
            peer = peers[(k + n) % len(peers)]
            with tempfile.TemporaryDirectory(prefix="kafkadelta-peers-") as work:
                r = peer.run(pathlib.Path(work))
            runs.append({**r, "round": n + 1, "load": os.getloadavg()[0]})
            say("round {}  {:20}{}".format(n + 1, peer.name, "  ".join(figures(o, [r]))))
    report(o, peers, runs)


def figures(o, runs):
    rate = statistics.median(r["messages"] / r["seconds"] for r in runs)
    cpu = statistics.median(r["cpu_seconds"] for r in runs) / o.messages * 1e6
    peak = max(r["peak_rss_bytes"] for r in runs) / (1 << 20)
    size = statistics.median(r["table_bytes"] for r in runs) / (1 << 20)
    warm = [r["warm"] for r in runs if r["warm"]]
    warm = f"{statistics.median(warm):>12,.0f} warm" if warm else " " * 17
    made = f"{size:>6,.0f} MiB in {statistics.median(r['commits'] for r in runs):,.0f} commits"
    return f"{rate:>12,.0f} messages/s", warm, f"{cpu:>8.3f} CPU s per million", f"{peak:>8,.0f} MiB", made


DELAY = "group.initial.rebalance.delay.ms"


def rebalance_delay(o):
    """Milliseconds that the broker has a new group wait for members."""
    text = """if True:
        import sys
        from confluent_kafka.admin import AdminClient, ConfigResource
        admin = AdminClient({"bootstrap.servers": sys.argv[1]})
        broker = ConfigResource("broker", str(next(iter(admin.list_topics(timeout=10).brokers))))
        print(admin.describe_configs([broker])[broker].result(timeout=10)[sys.argv[2]].value)"""
    return int(subprocess.check_output([o.python, "-c", text, o.brokers, DELAY], text=True))


def report(o, peers, runs):
    result = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "cpu": processor()},
        "settings": {"messages": o.messages, "partitions": o.partitions, "rounds": o.rounds, "bytes": o.lines.stat().st_size - o.messages, DELAY: o.delay},
        "peers": {p.name: {"version": p.version, "settings": p.settings} for p in peers},
        "runs": runs,
    }
    path = o.output or ROOT / "bench" / "results" / f"peers-{time.strftime('%Y-%m-%d')}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{result['machine']['cpu']}, {os.cpu_count()} cores; {o.messages:,} messages, {o.partitions} partitions; {DELAY} {o.delay}; medians of {o.rounds} rounds\n")
    for p in peers:
        print(f"{p.name:20}", *figures(o, [r for r in runs if r["peer"] == p.name]))
    print(f"\nEvery row of every table was compared with the messages. Saved as {path}")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
