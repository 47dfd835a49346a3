# Everything a fresh Debian machine needs is set up here: make demo, make test.
VENV := .venv
BIN := $(VENV)/bin
INSTALL := pip install --quiet --disable-pip-version-check
# each program that the tests run, and the Debian packages it comes from
TOOLS := openssl=openssl postfix=postfix dovecot=dovecot-imapd,dovecot-lmtpd /usr/lib/dovecot/pop3=dovecot-pop3d gpgsm=gpgsm mbsync=isync msmtp=msmtp \
  bash=bash zsh=zsh fish=fish groff=groff-base javac=default-jdk-headless node=nodejs npm=npm \
  dpkg-deb=dpkg unshare=util-linux ip=iproute2 man=man-db /usr/share/doc/python3-venv=python3-venv \
  cmsutil=libnss3-tools pebble=pebble softhsm2-util=softhsm2 pkcs11-tool=opensc /usr/share/java/bcmail.jar=libbcmail-java

.PHONY: demo test quick format lint bench soak generated translations setup lock audit release bundle servers clean

# a virtual environment with medmail and what develops it
setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml requirements-build.lock requirements-dev.lock
	command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) servers TOOLS=ensurepip=python3-venv
	python3 -m venv $(VENV)
	$(BIN)/$(INSTALL) --require-hashes --only-binary :all: --requirement requirements-build.lock
	$(BIN)/$(INSTALL) --require-hashes --no-build-isolation --requirement requirements-dev.lock
	$(BIN)/$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

# what is installed here and in CI, with hashes: newest versions that pyproject.toml's ranges allow; with UPGRADE= only
# what those ranges no longer allow is changed. requirements.lock is what users run, the other two hold the same of it
UPGRADE := --upgrade
LOCK = $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --python $(BIN)/python
lock: setup
	$(LOCK) pyproject.toml --extra sandbox --extra card --output-file requirements.lock
	$(LOCK) pyproject.toml --extra dev --group build --constraints requirements.lock --output-file requirements-dev.lock
	$(LOCK) --group build --constraints requirements-dev.lock --output-file requirements-build.lock

# the real servers and other implementations that the tests talk to
servers:
	@for pair in $(TOOLS); do tool=$${pair%%=*}; \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $$tool >/dev/null || test -e $$tool || \
	    missing="$$missing $$(echo $${pair#*=} | tr , ' ')"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "installing$$missing"; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update --quiet=2 && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $$missing </dev/null; \
	fi

# known vulnerabilities of what the locks hold; exit 3 of the script: they could not be asked for
AUDIT :=
audit: setup
	$(BIN)/python .ci/audit.py $(AUDIT)

# into dist/, from the commit that is checked out: wheel, sdist, SBOM, SHA256SUMS
release: setup
	$(BIN)/python .ci/release.py

# what installs without a network: wheels with an installer, and Debian packages
bundle: release
	$(BIN)/python .ci/bundle.py

demo: setup
	$(BIN)/medmail demo

# compiled first, as an installed package is: under PYTHONDONTWRITEBYTECODE each command under test would do it again
# T=tests/unit/cms is a part of it
T :=
test: setup servers
	$(BIN)/python -m compileall -q medmail_cli
	$(BIN)/pytest $(T)

# between two thoughts: no servers, a few examples of each property
quick: setup
	$(BIN)/pytest -q --hypothesis-profile=quick -m 'not soak and not thorough' tests/unit

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/python man/generate.py --check
	PYTHONPATH=. $(BIN)/python completions/generate.py --check

# medians and ratios against peers, measured in one run
bench: setup servers
	@for script in tests/benchmarks/*.py; do case $$script in */_*) continue;; esac; echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

# long fuzzing and soaking, outside CI: hours
FUZZ_RUNS := 1000000
soak: setup servers
	$(MAKE) servers TOOLS=debootstrap=debootstrap
	$(BIN)/pytest -m soak -n 0 -s
	$(BIN)/$(INSTALL) --editable '.[fuzz]'
	for target in ber fields certificate cms mail header; do \
	  $(BIN)/python -m tests.faults.fuzz $$target .hypothesis/fuzz/$$target --runs $(FUZZ_RUNS) || exit 1; \
	done

# the sentences that the code holds, merged into the French catalogue; what is new there wants a translation
translations: setup
	$(BIN)/pybabel -q extract --omit-header --no-location --sort-output -k _ -k N_ -o medmail_cli/locale/medmail.pot medmail_cli
	$(BIN)/pybabel -q update --ignore-pot-creation-date --no-fuzzy-matching --ignore-obsolete -D medmail -i medmail_cli/locale/medmail.pot -d medmail_cli/locale -l fr
	$(BIN)/pybabel -q compile -D medmail -d medmail_cli/locale -l fr

# man pages and completions, from the command tree
generated: setup
	PYTHONPATH=. $(BIN)/python man/generate.py
	PYTHONPATH=. $(BIN)/python completions/generate.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
