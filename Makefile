# `make` prints this index. Every target sets up what it needs; python3 >= 3.11 and a C compiler are all that is asked.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# One virtual environment, filled on demand; a stamp per extra records its installation. If you give PYTHON, and another
# Python made the environment, it is made again. If you do not, the environment stays as it is.
IDENTITY := import sys; print(sys.base_prefix, *sys.version_info[:3])
ifneq ($(origin PYTHON),file)
HELD := $(shell test -x $(BIN)/python && $(BIN)/python -c '$(IDENTITY)' 2> /dev/null)
ifneq ($(HELD),)
ifneq ($(HELD),$(shell $(PYTHON) -c '$(IDENTITY)' 2> /dev/null))
$(BIN)/python: another-python
endif
endif
endif

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fastgreen needs Python 3.11 or later")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

another-python:
	@echo "Another Python made $(VENV) ($(HELD)): $(PYTHON) makes it again."

SOURCES := setup.py pyproject.toml $(wildcard csrc/*.c csrc/*.h fastgreen/*.pyx fastgreen/*.pxd)

define extra
$(VENV)/.$(1): $(BIN)/python $$(SOURCES)
	$(BIN)/python -m pip install --quiet --editable '.[$(1)]'
	@touch $$@
endef
$(foreach name,demo collect study serve test lint bench fuzz docs,$(eval $(call extra,$(name))))

.PHONY: docs portable dist-check environment portable-c help demo collect-demo serve-demo study training-study test check bench peers sanitize sanitize-python fuzz fuzz-text fuzz-text-run lint dist clean another-python

help: ## print this index
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 22

demo: $(VENV)/.demo ## train small classifiers and measure what each inference costs
	$(BIN)/fastgreen demo

collect-demo: $(VENV)/.collect ## measure small layers for two minutes, fit models on them, price a network with those
	$(BIN)/fastgreen collect examples/collect-demo.toml -o out/layers
	$(BIN)/fastgreen fit out/layers -o out/models.json --pictures out/pictures
	$(BIN)/fastgreen estimate examples/lenet.toml --batch 16 --models out/models.json

serve-demo: $(VENV)/.serve ## serve a small model on loopback: joules per request and token at 1, 8 and 32 requests at once
	$(BIN)/python examples/serve.py

study: $(VENV)/.study ## energy of inference by input size: 20 sizes x 10 repeats of a small network; goes on where it was stopped
	$(BIN)/fastgreen bench examples/own_model_study.py:protocol --order rounds -o out/study
	$(BIN)/fastgreen compile out/study

training-study: $(VENV)/.study ## greener training: architecture x environment, what a change saves and what it costs
	$(BIN)/python examples/greener_training.py -o out/training

# Tests of optional packages skip, saying so, where the package is absent; PACKAGES=torch==2.13.0 adds one.
TESTS ?= tests

test: $(VENV)/.test ## run every test, or TESTS=tests/results for a part
	$(if $(PACKAGES),$(BIN)/python -m pip install --quiet $(PACKAGES))
	$(BIN)/python -m tests.run $(TESTS)

environment: $(VENV)/.test ## make the environment of the tests, and run nothing

check: $(VENV)/.test ## run the tests except the slow and the statistical ones, in a few minutes
	$(if $(PACKAGES),$(BIN)/python -m pip install --quiet $(PACKAGES))
	$(BIN)/python -m tests.run --quick $(TESTS)

bench: $(VENV)/.bench ## run the benchmarks; each states its bar and asserts its answer first; writes docs/bars.md
	$(if $(PACKAGES),$(BIN)/python -m pip install --quiet $(PACKAGES))
	$(BIN)/python -m pytest benchmarks --bars docs/bars.md

peers: $(VENV)/.bench ## measure fastgreen beside its peers (as root, in a private namespace) and write docs/peers.md
	$(BIN)/python -m benchmarks.peers --publish

sanitize: ## run the C tests under the address, undefined-behaviour, leak and thread sanitizers
	$(MAKE) -C tests/c sanitize

# The whole tree again, built with a sanitizer in the engine, whose runtime has to be loaded before the interpreter.
# The fault suite runs there with the tests that its rows name; what the interpreter never frees is no leak of ours.
SANITIZED_TESTS := tests/test_faults.py tests/measuring/test_process.py tests/measuring/test_overlap_threads.py tests/sensors/test_hostile_nvml.py tests/sensors/test_hostile_trees.py
# A sanitizer's own memory grows; ThreadSanitizer does not bear the fork of a process with threads.
LEFT_OUT_address := memory_constant
LEFT_OUT_thread := memory_constant or fork
SANITIZER_OPTIONS := ASAN_OPTIONS=detect_leaks=0 \
	TSAN_OPTIONS="log_path=$(CURDIR)/build/sanitize/report halt_on_error=0 die_after_fork=0 suppressions=$(CURDIR)/tests/faults/tsan.supp"

sanitize-python: $(VENV)/.test ## play the faults with the engine under the address and thread sanitizers
	$(MAKE) --no-print-directory sanitize-python-address sanitize-python-thread

sanitize-python-%: $(VENV)/.test
	mkdir -p build/sanitize/$*
	tar cf - --exclude='*.so' --exclude='fastgreen/_*.c' --exclude=__pycache__ --exclude=tests/c/bin \
		setup.py pyproject.toml README.md docs csrc fastgreen tests | tar xf - -C build/sanitize/$*
	cd build/sanitize/$* && FASTGREEN_CFLAGS="-O1 -g -fsanitize=$* -fno-omit-frame-pointer" \
		$(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	cd build/sanitize/$* && $(SANITIZER_OPTIONS) FASTGREEN_SANITIZED=$* \
		LD_PRELOAD=$$($(CC) -print-file-name=lib$(if $(filter address,$*),asan,tsan).so) \
		$(abspath $(BIN))/python -m pytest -p no:cacheprovider -m 'not slow' -k 'not ($(LEFT_OUT_$*))' \
		$(SANITIZED_TESTS)

# The package without its engine. -S leaves out the finder of an editable installation, which would add the engine.
PORTABLE_TESTS := tests/portable tests/metrics/test_kernels.py tests/metrics/test_neighbours.py tests/results/test_resolve.py
PORTABLE_SOURCES := fg_metric% fg_resolver% fg_follow% fg_batches% fg_share% fg_account% fg_jump% fg_error%
WINDOWS_CC := x86_64-w64-mingw32-gcc

portable: $(VENV)/.test ## build the package without its engine, as on macOS and Windows, and test it
	mkdir -p build/portable
	tar cf - --exclude='*.so' --exclude=__pycache__ --exclude=tests/c/bin \
		setup.py pyproject.toml Makefile README.md docs csrc fastgreen tests examples | tar xf - -C build/portable
	cd build/portable && FASTGREEN_ENGINE=0 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	cd build/portable && PYTHONPATH=$$($(abspath $(BIN))/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
		$(abspath $(BIN))/python -S -m pytest -q -p no:cacheprovider -m 'not slow and not statistical' $(PORTABLE_TESTS)
	$(MAKE) --no-print-directory portable-c

portable-c: ## compile the portable C sources with clang and with the compiler for Windows, where installed
	@for compiler in $(FUZZ_CLANG) $(WINDOWS_CC); do \
		if ! command -v $$compiler > /dev/null; then echo "There is no $$compiler: it is not tried."; continue; fi; \
		for source in $(notdir $(filter $(PORTABLE_SOURCES:%=csrc/%),$(wildcard csrc/*.c))); do \
			$$compiler -fsyntax-only -Werror -std=gnu11 -Wall -Wextra -Wno-unused-parameter csrc/$$source || exit 1; \
		done; echo "The portable C sources compile with $$compiler."; \
	done

FUZZ_SECONDS ?= 60
FUZZ_TEXT_SECONDS = $(shell expr $(FUZZ_SECONDS) / 10 + 1)
FUZZ_CLANG = $(firstword $(wildcard /usr/bin/clang /usr/bin/clang-[0-9][0-9]))
# Debian has the runtime of libFuzzer in a package of its own.
FUZZ_RUNTIME = $(wildcard /usr/lib/llvm-*/lib/clang/*/lib/*/libclang_rt.fuzzer*.a)
FUZZ_CFLAGS := -std=gnu11 -g -O1 -Wall -Wextra -Icsrc
FUZZ_SOURCES := $(filter-out csrc/fg_metric%,$(wildcard csrc/fg_*.c))
FUZZ_C := text share

fuzz: $(VENV)/.fuzz fuzz-text ## fuzz every reader, all together for FUZZ_SECONDS (60), guided by coverage; attack the granting helper (as root)
	$(BIN)/python -m tests.fuzz.targets all $(FUZZ_SECONDS) build/fuzz
	FASTGREEN_ATTACK_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q tests/punctual/test_grant_under_attack.py

fuzz-text:
	if [ -z "$(and $(FUZZ_CLANG),$(FUZZ_RUNTIME))" ] && [ $$(id -u) = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && apt-get install -y -qq clang libclang-rt-dev > /dev/null; fi
	$(MAKE) --no-print-directory fuzz-text-run

fuzz-text-run: $(FUZZ_C:%=fuzz-c-%)

fuzz-c-%:
	@mkdir -p build/fuzz/$*
ifneq ($(and $(FUZZ_CLANG),$(FUZZ_RUNTIME)),)
	$(FUZZ_CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all tests/fuzz/fuzz_$*.c \
		$(FUZZ_SOURCES) -o build/fuzz/fuzz_$* -pthread -ldl -lm
	build/fuzz/fuzz_$* -max_total_time=$(FUZZ_TEXT_SECONDS) -max_len=$(if $(filter text,$*),320,4096) -print_final_stats=1 \
		-artifact_prefix=build/fuzz/$*/ build/fuzz/$*
else
	@echo "There is no clang with libFuzzer: the C code is fuzzed blindly, without coverage. Install clang and libclang-rt-dev."
	$(CC) $(FUZZ_CFLAGS) -DSTANDALONE -fsanitize=address,undefined -fno-sanitize-recover=all tests/fuzz/fuzz_$*.c \
		$(FUZZ_SOURCES) -o build/fuzz/fuzz_$* -pthread -ldl -lm
	build/fuzz/fuzz_$* $(FUZZ_TEXT_SECONDS) $$RANDOM
endif

lint: $(VENV)/.lint ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.[ch]

docs: $(VENV)/.docs $(VENV)/.test ## build the site of the documentation into build/site and check it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict
	$(BIN)/python docs/site/check.py build/site
	FASTGREEN_SITE=build/site $(BIN)/python -m pytest -q -p no:cacheprovider tests/project/test_site.py

dist: $(BIN)/python ## build the source distribution and a wheel in isolation
	$(BIN)/python -m pip install --quiet build
	CFLAGS="-g0 $$CFLAGS" LDFLAGS="-Wl,--strip-all $$LDFLAGS" $(BIN)/python -m build

dist-check: $(VENV)/.test dist ## build the packages, and check them as a user gets them
	$(BIN)/python -m tests.wheel_check dist $(BIN)/python

clean: ## remove what was built
	rm -rf build dist out $(VENV) fastgreen/*.so fastgreen/_core.c fastgreen/_follow.c fastgreen/_kernels.c fastgreen/_ledger.c fastgreen/_resolver.c fastgreen/_shares.c fastgreen/_steps.c fastgreen/_window.c tests/c/bin *.egg-info
