# Verbs, the same locally and in CI. Everything happens in .venv; nothing else on the machine is
# touched.
PYTHON ?= python3
PORT ?= 8000
HOST ?= 127.0.0.1
OUT ?= demo
ONCE ?=
BIN := .venv/bin
# One thread a process: two on busy cores are several times slower than one.
export OMP_NUM_THREADS ?= 1

.PHONY: mesh identity setup lint check check-openapi test test-slow test-gpu test-image image lock \
	repeat fuzz faults attacks demo serve \
	clean

# The demo and the server need less than the tests do, so they wait for less.
.venv/serving.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serving,local,demo]'
	touch $@

.venv/all.stamp: .venv/serving.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serving,training,local,ray,artefacts,demo,dev]'
	touch $@

setup: .venv/all.stamp chromium promtool

# The page's tests drive a real browser. Without one they are skipped, and say so; in CI they fail.
# Chromium's headless shell costs them half of what Chromium costs; old Debians have none.
BROWSER := $(firstword $(foreach name,chromium-headless-shell chromium google-chrome,\
	$(wildcard $(addsuffix /$(name),$(subst :, ,$(PATH))))))
chromium:
	@[ -n "$(BROWSER)" ] || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq && \
		for browser in chromium-headless-shell chromium; do \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
				$$browser fonts-dejavu-core > /dev/null && break; \
		done; \
	} || echo "no Chromium, so the tests of the page are skipped:" \
		"apt-get install chromium-headless-shell (as root)"

# The alerts are tried out with Prometheus' own tool, models are pulled from a real registry.
promtool:
	@{ command -v promtool && command -v docker-registry; } > /dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends prometheus docker-registry > /dev/null; \
	fi || true
	@command -v promtool > /dev/null || \
		echo "no promtool, so the tests of the alerts are skipped: apt-get install prometheus (as root)"

# What the page takes from npm, written again as it is there; needs npm and its registry.
LIT_HTML := 3.3.3
vendor:
	rm -rf build/vendor && mkdir -p build/vendor
	cd build/vendor && npm pack --silent lit-html@$(LIT_HTML) && tar -xzf lit-html-$(LIT_HTML).tgz
	cd build/vendor/package && cp --parents LICENSE lit-html.js directive.js directive-helpers.js \
		directives/live.js directives/repeat.js $(CURDIR)/service/page/vendor/lit-html/
	git diff --exit-code --stat service/page/vendor

# Three processes, also on two cores: many tests wait for a process of their own. Files are handed
# out in the order of tests/conftest.py.
TEST_PROCESSES ?= 3
TEST_ORDER := --dist loadfile --no-loadscope-reorder
test: lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) $(TEST_ORDER)

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

# The tests that start processes of their own (TorchServe, Redis, commands, browsers), again and
# again until one fails: what fails once in twenty runs is a bug too.
TIMES ?= 20
FILES ?= $$(grep -rl 'mark\.processes' tests --include='test_*.py')
repeat: setup
	for time in $$(seq $(TIMES)); do echo "$$time of $(TIMES)"; \
		$(BIN)/python -m pytest -x -n $(TEST_PROCESSES) $(TEST_ORDER) $(FILES) || exit 1; \
	done

# The image, built on a base of Debian's packages unless AFFECTGAN_TEST_BASE names another, and run
# confined. Needs root; a quarter of an hour and 12 GB in TMPDIR.
test-image: setup
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends podman buildah runc debootstrap fuse-overlayfs > /dev/null
	$(BIN)/python -m pytest -m image tests/image

# The image with the builder that is there: TARGET is one of cpu, cuda, training, scoring; for the
# first two RUNTIME=process leaves Java out.
TARGET ?= cpu
RUNTIME ?= torchserve
BUILDER ?= $(firstword $(notdir $(wildcard $(addsuffix /docker,$(subst :, ,$(PATH))))) podman)
image:
	$(BUILDER) build --build-arg TARGET=$(TARGET) --build-arg RUNTIME=$(RUNTIME) \
		--tag affectgan:$(TARGET)-$(RUNTIME) .

# What images install, to the hash, after a change of pyproject.toml or constraints.txt.
lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet 'pip>=25'
	build/lock/bin/python image/lock.py

# Pictures and requests that nearly are some, for so long, and then schemathesis at length.
FUZZ_MINUTES ?= 10
fuzz: setup
	FUZZ_MINUTES=$(FUZZ_MINUTES) $(BIN)/python -m pytest -s tests/fuzz
	$(BIN)/python -m pytest -m slow tests/service/api/test_schemathesis.py

# The tables of docs/faults.md: the first takes minutes and a quiet machine.
faults: setup
	$(BIN)/python -m benchmarks.faults

attacks: setup
	$(BIN)/python -m benchmarks.attacks

# What is read and not run: a part of `test`, so that CI sees it.
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy affect training handlers service scoring tests benchmarks experiments

check: lint
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_repository.py
	$(BIN)/python -m service.api.openapi --check

# Needs Node.js and npm's registry, so it is no part of `check`.
check-openapi:
	npx --yes @redocly/cli@2.77.0 lint openapi.yaml

# MediaPipe's face mesh on every picture of DATA (a database or a folder), written to OUT as
# Parquet, for `affectgan data teach`. It wants numpy 1.x, so it has an environment of its own.
.venv-mesh/stamp:
	$(PYTHON) -m venv .venv-mesh
	.venv-mesh/bin/pip install --quiet --disable-pip-version-check \
		mediapipe==0.10.21 'numpy<2' pillow 'pyarrow<20' pydantic tqdm
	touch $@

mesh: .venv-mesh/stamp
	.venv-mesh/bin/python -m training.teacher.facemesh $(DATA) $(OUT)

# Whether a counterfactual of DATA's test split shows the same person, by a recognition network that
# comes in a wheel; an environment of its own, an experiment only.
.venv-identity/stamp:
	$(PYTHON) -m venv .venv-identity
	.venv-identity/bin/pip install --quiet --disable-pip-version-check \
		dlib-bin==20.0.1.post1 face-recognition-models==0.3.0 'numpy<3' opencv-python-headless
	touch $@

identity: setup .venv-identity/stamp
	$(BIN)/python -m experiments.identity ask --data $(DATA) --faces $(or $(FACES),100) --out $(OUT)
	.venv-identity/bin/python -m experiments.identity compare $(OUT)

# The book, in build/site. --strict: a link that leads nowhere ends it.
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

demo: .venv/serving.stamp
	$(BIN)/affectgan demo --out $(OUT) --port $(PORT) $(if $(ONCE),--once)

serve: .venv/serving.stamp
	$(BIN)/affectgan serve --weights weights --host $(HOST) --port $(PORT)

clean:
	rm -rf .venv .venv-mesh .venv-identity build dist *.egg-info demo
