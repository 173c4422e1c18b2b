# What a fresh machine needs is Rust (rustup), Node.js 20 or newer with npm, and Debian's apt; the rest is brought here.
#
#   make run     the cluster on this machine, with its web page
#   make test    installs what the tests need, and runs them all

PORT ?= 7070
RELAYS ?= 3
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PYTHON ?= python3
WAYSTATION := $(or $(CARGO_TARGET_DIR),target)/release/waystation
# What the tests drive: browsers, clips, network namespaces, the judge of our metrics.
TEST_PACKAGES := chromium curl etcd-server ffmpeg firefox-esr iproute2 openssl prometheus python3-venv \
  gstreamer1.0-libav gstreamer1.0-nice gstreamer1.0-plugins-bad gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
  gstreamer1.0-plugins-ugly gir1.2-gst-plugins-bad-1.0 gir1.2-gst-plugins-base-1.0 python3-gi
AIORTC := aiortc==1.16.0

.PHONY: run build web test lint docs bench test-tools clean

run: build web
	$(WAYSTATION) dev --port $(PORT) --relays $(RELAYS) --page web/dist

build: target/.build-packages
	cargo build --release --locked

# aws-lc-rs and ring build C code; etcd-client builds protobuf, and needs its well-known types beside the compiler.
target/.build-packages:
	@{ command -v cc && command -v protoc && test -e /usr/include/google/protobuf/descriptor.proto; } >/dev/null || \
	  ( $(SUDO) apt-get update -q && \
	    $(SUDO) apt-get install -yq --no-install-recommends gcc libc6-dev protobuf-compiler libprotobuf-dev )
	@mkdir -p target && touch $@

web: web/dist/index.html

web/dist/index.html: web/node_modules/.package-lock.json $(shell find web/src web/index.html web/*.json web/*.ts proto/waystation -type f -not -path 'web/src/gen/*')
	cd web && npm run --silent build
	@touch $@

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-fund --no-audit --loglevel=error
	@touch $@

test: test-tools target/.build-packages web
	./tests/run

test-tools: target/.test-packages target/venv/bin/aiortc.version
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest

target/.test-packages: Makefile
	@missing=""; for package in $(TEST_PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing; fi
	@mkdir -p target && touch $@

target/venv/bin/aiortc.version: Makefile
	@mkdir -p target
	$(PYTHON) -m venv target/venv
	target/venv/bin/pip install --quiet --disable-pip-version-check '$(AIORTC)'
	@touch $@

lint: target/.build-packages web/node_modules/.package-lock.json
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd web && npm run --silent lint

# docs/protocol.md, from its template and the protos.
docs: web/node_modules/.package-lock.json
	cd web && npm run --silent docs

bench: build
	cargo bench --locked --bench forward --bench coordinator

clean:
	cargo clean
	rm -rf web/dist web/node_modules web/src/gen
