# The usual day: make check. `make help` lists the targets.

GO       ?= go
FUZZTIME ?= 30s
# Pinned, since a newer linter finds new things. With a binary at hand: make lint LINT=golangci-lint
LINT     ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Prints the Python that has delta-rs, which it installs at first.
VENV     := python3 test/e2e/readers/makevenv.py $${XDG_CACHE_HOME:-$$HOME/.cache}/kafkadelta-e2e test/e2e/readers/requirements.txt

.DEFAULT_GOAL := help
.PHONY: help build test check fmt lint bench bench-all bench-log nightly fuzz cross

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/connector, static as in the image
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/connector

test: ## run all tests, with the race detector and assertions; tests of real servers skip without Docker
	$(GO) test -race -timeout 60m ./...

check: lint test ## what a change has to pass

fmt: ## format all files
	$(LINT) fmt

lint: ## run go vet, the linters and the format check of .golangci.yml
	$(GO) vet ./...
	$(LINT) run

bench: ## measure every stage, and the whole path from a broker; with BENCH="-against HEAD" side by side with a revision
	$(GO) run ./bench $(BENCH)

nightly: fuzz cross ## what takes long: fuzzing, all systems, every test three times in random order, Spark for longer, a million files, races and broken connections on each cloud's server, a storm of a million messages, a registry and a broker that are away for a minute, six versions of a schema under kills, 50 topics in one process, 60 kills of three topics into one table, 100 rounds of chaos on each store, a thousand simulated workers, the model of the protocol in its large worlds, 10,000 seeds of the simulation, and each rule taken out of the code
	$(GO) test -race -count 3 -shuffle on -timeout 2h ./...
	$(GO) test -run TestSpark -timeout 1h ./test/e2e -spark-time 10m
	$(GO) test -run 'OnClouds|TestNetworkFaults' -timeout 2h ./test/e2e -writers 8 -appends 20 -every 1 -fault-runs 200
	$(GO) test -run TestPoisonStorm -timeout 1h ./test/e2e -storm 1000000 -results results/storm.txt
	$(GO) test -run 'TestRegistryDown|TestBrokerDown' -timeout 1h ./test/e2e -outage 60s -results results/outage.txt
	$(GO) test -run TestEvolution -timeout 1h ./test/e2e -results results/evolution.txt
	$(GO) test -run TestFiftyTopics -timeout 1h ./test/e2e -results results/topics.txt
	$(GO) test -run TestKillTopicsOfOneTable -timeout 1h ./test/e2e -kills 60 -results results/topics.txt
	$(GO) test -run TestChaos -timeout 6h ./test/e2e -chaos-rounds 100 -results results/chaos.txt
	$(GO) test -run TestFleetScale -v -timeout 3h ./sink -fleet-runs 32x64/1s,400x4000/10s,1000x10000/10s -fleet-results results/fleet.md
	$(GO) test -run 'TestConformance' -timeout 1h ./storage/local ./storage/azure ./storage/s3 ./storage/gcs -stream-mib 1024
	$(GO) test -run TestWorlds -timeout 12h ./test/model -bounds large -results results/large.md
	$(GO) test -run 'TestSeeds$$' -timeout 12h ./test/sim -seeds 10000 -results results/seeds.md
	$(GO) test -run 'TestBreaks$$' -timeout 6h ./test/sim -breaks -report results/breaks.md
	$(MAKE) bench-log

bench-all: ## measure everything, one after the other: stages, whole path, memory, latency, contention, growth; with BENCH="-brokers localhost:9092" from a real broker
	$(GO) run ./bench all -python "$$($(VENV))" $(BENCH)

bench-log: ## open, follow and checkpoint a log of a million files, side by side with delta-rs
	$(GO) run ./bench log -python "$$($(VENV))"

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file func; do \
		name=$${func#func }; \
		echo "$$(dirname $$file) $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$(dirname $$file)" || exit 1; \
	done

cross: ## compile and vet, tests included, for Linux, macOS and Windows, on both processors
	@for system in linux darwin windows; do for arch in amd64 arm64; do \
		echo "$$system/$$arch"; \
		export GOOS=$$system GOARCH=$$arch CGO_ENABLED=0; \
		$(GO) build ./... && $(GO) vet ./... || exit 1; \
	done; done
