# qflow: what one needs day to day. `make` alone lists the targets; the work is in tools/.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check soak bench bench-latency bench-instructions bench-client install run clean
PG ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
setup: ## install what is missing: PostgreSQL 14-18, libclang, cargo-pgrx (idempotent, cached)
	@tools/setup.sh
demo: setup ## the whole thing on real documents, on an embedded PostgreSQL 17; DOCS=dir for your own
	@tools/demo.sh $(if $(DOCS),"$(DOCS)")
test: setup ## all tests on PostgreSQL 14-18; PG=17 or PG="14 17" for some, PG_CONFIG=path for your own server
	@PG_CONFIG="$(PG_CONFIG)" tools/test.sh $(PG)
check: setup ## format, clippy on 14-18, documentation, layer rules, install script; PG=17 for one version
	@tools/check.sh $(PG)
soak: setup ## all tests, the long ones at full size, on every version
	@QFLOW_SOAK=1 PG_CONFIG="$(PG_CONFIG)" tools/test.sh $(PG)
bench: setup ## qflow beside its peers and plain SQL, report in target/bench; QUICK=1 short, CHECK=1 fails when ratios got worse
	@tools/bench.sh compare target/bench $(if $(QUICK),--quick) $(if $(CHECK),--check) $(if $(ONLY),--only $(ONLY))
	@tools/bench.sh client $(if $(QUICK),2000,20000)
bench-latency: setup ## how soon a waiting consumer has a job, beside one that polls; ROUNDS=1000
	@tools/bench.sh latency $(or $(ROUNDS),1000)
bench-instructions: setup ## instructions of a fetch with few and with many jobs, counted by callgrind; JOBS=1000000
	@tools/bench.sh instructions $(or $(JOBS),1000000)
bench-client: setup ## a pipeline of the client that does nothing: jobs/s by batch size; JOBS=20000
	@tools/bench.sh client $(or $(JOBS),20000)
install: setup ## the release build into any PostgreSQL: PG_CONFIG=/path/to/pg_config
	@tools/install.sh release "$(PG_CONFIG)"
run: setup ## an embedded server with qflow created, and psql on it; PG=14..18, default 17
	@PG_CONFIG="$(PG_CONFIG)" tools/run.sh $(or $(PG),17)
clean: ## remove what was built here; CACHE=1 also the cache with the PostgreSQLs
	@tools/clean.sh $(CACHE)
