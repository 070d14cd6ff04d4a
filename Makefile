# dmfs. `make` alone lists the targets.

PREFIX  ?= /usr/local
DESTDIR ?=
# mount(8) looks for its helpers here and nowhere else, whatever PREFIX is.
HELPERDIR ?= /sbin
SHARE   := $(PREFIX)/share
SYSTEMD := $(PREFIX)/lib/systemd

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

# T is how long each fuzz test runs; SEED and N say which and how many random scenarios `make oracle` plays.
T ?= 30s
SEED ?= 1
N ?= 200

.DEFAULT_GOAL := help
.PHONY: help build demo test test-all check lint race fuzz golden oracle crash fidelity manuals e2e bench bench-targets bench-aes docs suite-cryptsetup suite-dmtest suite-lvm2 setup install uninstall clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, as bin/dmfs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/dmfs ./cmd/dmfs

demo: ## see what it does: two images become one disk, which grows while in use
	@tests/setup.sh demo
	@$(MAKE) --no-print-directory build
	@tests/demo.sh

setup: ## install what the tests use (as root, on Debian)
	@tests/setup.sh test

test: setup build ## all tests that this machine can run
	@tests/gotest.sh ./...

test-all: setup build ## the same; a skipped test is a failure
	@STRICT=1 tests/gotest.sh ./...

lint: ## the linters, see tests/lint.sh
	@tests/lint.sh

check: setup lint test ## what continuous integration runs: lint and test

race: setup build ## all tests under the race detector
	@tests/gotest.sh -race ./...

fuzz: ## every fuzz test for T=30s; a failure is kept in testdata and is a test from then on
	@for f in $$(grep -rl '^func Fuzz' --include '*_test.go' .); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
			echo "$(GO) test ./$$(dirname $$f) -run NONE -fuzz '^'$$name'$$' -fuzztime $(T)"; \
			$(GO) test ./$$(dirname $$f) -run NONE -fuzz "^$$name$$" -fuzztime $(T) -fuzzminimizetime 100x || exit 1; \
		done; \
	done

golden: ## record anew what the kernel does with the scenarios in tests/scenarios and the calls in tests/ioctls
	$(GO) test -count=1 ./tests/kernel -run TestGoldens -golden

oracle: ## N=200 random scenarios from SEED=1 on, here and in the kernel; a failure is made small and kept in build/oracle
	$(GO) test -count=1 -timeout 24h ./tests/kernel -v -run TestRandom -seed $(SEED) -cases $(N)

crash: ## power cuts at every write of targets that keep metadata, N=4000 states of each workload
	DMFS_CRASHES=$(N) $(GO) test -count=1 -timeout 24h ./targets/integrity ./targets/mirror ./targets/raid ./targets/snapshot ./targets/thin -v -run PowerCuts

fidelity: ## write docs/fidelity.md: what is compared with the kernel, and the differences
	$(GO) test -count=1 ./tests/fidelity -update

manuals: ## write docs/targets, the manuals of the targets
	$(GO) test -count=1 ./tests/manuals -update

e2e: setup build ## the tests of the built program alone
	@tests/gotest.sh -count=1 ./tests/e2e/...

bench: build ## side by side with qemu-storage-daemon and nbdfuse; ratios, and build/bench.json
	@tests/setup.sh bench
	@mkdir -p build
	$(GO) run ./tests/bench -dmfs bin/dmfs -json build/bench.json

bench-targets: build ## crypt, verity, snapshots and thin devices beside linear, and beside qemu-storage-daemon where it has the like
	@tests/setup.sh bench
	for set in crypt verity snapshot thin; do $(GO) run ./tests/bench -dmfs bin/dmfs -set $$set -dir /dev/shm || exit 1; done

bench-aes: ## AES-XTS and -CBC side by side with openssl, one processor each
	@tests/bench/aes.sh

suite-cryptsetup: build ## tests of cryptsetup 2.6.1, fetched, in sessions of dmfs exec; see tests/suites
	@tests/suites/cryptsetup.sh

suite-dmtest: build ## tests of thin pools of dmtest-python, likewise
	@tests/suites/dmtest.sh

suite-lvm2: build ## tests of LVM2 2.03.16, likewise
	@tests/suites/lvm2.sh

docs: ## check the man pages; read one with: mandoc -l docs/man/dmfs.1
	mandoc -Tlint -Wwarning docs/man/*

install: build ## into DESTDIR and PREFIX=/usr/local: program, mount helpers, man pages, units, completion
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(HELPERDIR) $(DESTDIR)$(SHARE)/man/man1 $(DESTDIR)$(SHARE)/man/man5 \
		$(DESTDIR)$(SHARE)/man/man8 $(DESTDIR)$(SYSTEMD)/system $(DESTDIR)$(SYSTEMD)/user \
		$(DESTDIR)$(SHARE)/bash-completion/completions $(DESTDIR)$(SHARE)/zsh/site-functions $(DESTDIR)$(SHARE)/fish/vendor_completions.d
	install -m 755 bin/dmfs $(DESTDIR)$(PREFIX)/bin/dmfs
	ln -sf $(PREFIX)/bin/dmfs $(DESTDIR)$(HELPERDIR)/mount.fuse.dmfs
	ln -sf $(PREFIX)/bin/dmfs $(DESTDIR)$(HELPERDIR)/umount.fuse.dmfs
	install -m 644 docs/man/dmfs.1 docs/man/dmfs-log-replay.1 $(DESTDIR)$(SHARE)/man/man1/
	install -m 644 docs/man/dmfs.toml.5 $(DESTDIR)$(SHARE)/man/man5/
	install -m 644 docs/man/mount.fuse.dmfs.8 $(DESTDIR)$(SHARE)/man/man8/
	ln -sf mount.fuse.dmfs.8 $(DESTDIR)$(SHARE)/man/man8/umount.fuse.dmfs.8
	sed 's|@BIN@|$(PREFIX)/bin|' cmd/dmfs/dist/dmfs@.service >$(DESTDIR)$(SYSTEMD)/system/dmfs@.service
	sed 's|@BIN@|$(PREFIX)/bin|' cmd/dmfs/dist/dmfs-user@.service >$(DESTDIR)$(SYSTEMD)/user/dmfs@.service
	chmod 644 $(DESTDIR)$(SYSTEMD)/system/dmfs@.service $(DESTDIR)$(SYSTEMD)/user/dmfs@.service
	install -m 644 cmd/dmfs/dist/dmfs.bash $(DESTDIR)$(SHARE)/bash-completion/completions/dmfs
	install -m 644 cmd/dmfs/dist/_dmfs $(DESTDIR)$(SHARE)/zsh/site-functions/_dmfs
	install -m 644 cmd/dmfs/dist/dmfs.fish $(DESTDIR)$(SHARE)/fish/vendor_completions.d/dmfs.fish

uninstall: ## take away what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/dmfs $(DESTDIR)$(HELPERDIR)/mount.fuse.dmfs $(DESTDIR)$(HELPERDIR)/umount.fuse.dmfs \
		$(DESTDIR)$(SHARE)/man/man1/dmfs.1 $(DESTDIR)$(SHARE)/man/man1/dmfs-log-replay.1 $(DESTDIR)$(SHARE)/man/man5/dmfs.toml.5 $(DESTDIR)$(SHARE)/man/man8/mount.fuse.dmfs.8 \
		$(DESTDIR)$(SHARE)/man/man8/umount.fuse.dmfs.8 \
		$(DESTDIR)$(SYSTEMD)/system/dmfs@.service $(DESTDIR)$(SYSTEMD)/user/dmfs@.service \
		$(DESTDIR)$(SHARE)/bash-completion/completions/dmfs $(DESTDIR)$(SHARE)/zsh/site-functions/_dmfs \
		$(DESTDIR)$(SHARE)/fish/vendor_completions.d/dmfs.fish

clean: ## remove what was built
	rm -rf bin build
