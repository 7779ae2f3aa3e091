"""Reads `go test -json` and prints what a person wants to read: failed tests with their output, skipped tests, the slowest ones, and last,
exactly as go test writes them, the lines of the packages. Exits with 1 for a failure, for a skip that is not in ALLOWED,
and where nothing ran. Progress goes to stderr."""

import json
import sys

# Tests that may skip here, and why. Everything else has to run.
ALLOWED = {
    ("kafkadelta/decode/json", "TestAppendDoesNotAllocate"): "the race detector allocates; run before, without it",
    ("kafkadelta/sink/datafile", "TestWriteDoesNotAllocate"): "the race detector allocates; run before, without it",
    ("kafkadelta/storage/local", "TestPermission"): "root passes every permission check; run before, as nobody",
    ("kafkadelta/storage/local", "TestFileSystemWithoutEither"): "what /proc answers depends on the kernel",
    ("kafkadelta/sink/datafile", "TestTuning"): "a comparison by hand",
    ("kafkadelta/storage/azure", "TestHierarchicalNamespace"): "its server is in the test's process: there is no second handle to read by",
    ("kafkadelta/test/sim", "TestBreaks"): "each rule broken, which takes hours: make nightly",
    ("kafkadelta/test/sim", "TestWorld"): "one world in this process: TestSeeds runs it, each seed in a process of its own",
    ("kafkadelta/test/model", "TestReductionLosesNothing"): "one goroutine, on which the detector is wasted; run before, without it",
}

output, failed, skipped, packages, broken, seconds = {}, [], [], [], [], {}
for line in sys.stdin:
    try:
        e = json.loads(line)
    except ValueError:
        broken.append(line)  # what go itself says
        continue
    action, test = e.get("Action"), e.get("Test")
    key = (e.get("Package") or e.get("ImportPath", ""), test or "")
    if test and "/" not in test and "Elapsed" in e:
        seconds[key] = e["Elapsed"]
    if action == "build-output":
        broken.append(e["Output"])
    elif action == "output":
        if not test and e["Output"].startswith(("ok ", "FAIL\t", "---", "?  ")):
            packages.append(e["Output"])
            print(e["Output"], end="", file=sys.stderr, flush=True)
        else:
            output.setdefault(key, []).append(e["Output"])
    elif action == "fail":
        failed.append(key)
    elif action == "skip" and test:
        skipped.append(key)
    elif action == "pass":
        output.pop(key, None)

sys.stdout.writelines(broken)
for key in failed:
    print("==== FAILED", *key)
    sys.stdout.writelines(output.get(key, []))
refused = 0
for key in skipped:
    why = ALLOWED.get((key[0], key[1].split("/")[0]))
    refused += why is None
    said = [line.strip() for line in output.get(key, []) if line.startswith("    ") and "---" not in line]
    print("---- skipped" if why else "==== MUST NOT SKIP", *key, "--", why or " ".join(said))
if failed or broken or refused:
    print(f"==== {len(failed)} failed, {refused} skipped that must not")
print("---- slowest:", ", ".join(f"{key[1]} {took:.0f} s" for key, took in sorted(seconds.items(), key=lambda i: -i[1])[:40]))
sys.stdout.writelines(packages)
sys.exit(bool(failed or broken or refused or not packages))
