# Every target works on a fresh machine with Go and a C compiler (DuckDB is
# linked in). The scripts do the work, so that they also serve where make is
# missing.

.DEFAULT_GOAL := build
.PHONY: build install demo test test-warehouses test-deps lint bench fuzz chaos soak

# build makes bin/coho.
build:
	go build -o bin/coho ./cmd/coho

# install puts coho where `go install` does.
install:
	go install ./cmd/coho

# demo is the main job end to end, on an embedded warehouse and a local org.
demo:
	go run ./cmd/coho demo

# test is the one command that passes all tests: what they need is found or
# installed, the code is vetted and linted, the tests run with the race
# detector. PKG=./planner/... narrows it.
test:
	@scripts/test $(PKG)

# test-warehouses tests the BigQuery and Snowflake sources against emulators that
# other people wrote, which it builds once (ten minutes and 300 MB).
test-warehouses:
	@scripts/test-warehouses $(PKG)

# test-deps finds or installs a PostgreSQL server's binaries.
test-deps:
	@scripts/test-deps

# lint is gofmt, go vet and staticcheck.
lint:
	@scripts/lint $(PKG)

# bench runs the benchmarks; BENCH=Eval picks some, COHO_BENCH_ROWS=10000000 is the
# full size of those that read rows.
BENCH ?= .
bench:
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 0 $(or $(PKG),./...)

# fuzz tries each fuzz target on FUZZ inputs.
FUZZ ?= 20000x
fuzz:
	@scripts/fuzz $(FUZZ)

# chaos writes CHAOS rows of skewed parents by every API, through locks, faults
# and kills; it says how often rows were tried.
CHAOS ?= 200000
chaos:
	COHO_CHAOS=$(CHAOS) go test ./cmd/coho -count=1 -run TestChaos -v -timeout 1h

# soak gives the property and the kill tests hours instead of seconds.
soak: test-deps
	COHO_SOAK=1 go test -count=1 -p 1 -timeout 6h $(or $(PKG),./...)
