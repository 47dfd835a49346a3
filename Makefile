# Everything a fresh Debian machine needs is set up here: make demo, make test.
VENV := .venv
BIN := $(VENV)/bin
DEBIAN := python3-venv openssl postfix dovecot-imapd dovecot-lmtpd gpgsm isync msmtp bash zsh fish groff-base
RUN_TOOLS := openssl postfix dovecot gpgsm mbsync msmtp bash zsh fish groff

.PHONY: demo test lint bench soak generated translations setup servers clean

# a virtual environment with medmail and what develops it
setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml
	command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) servers
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# the real servers and other implementations that the tests talk to
servers:
	@for tool in $(RUN_TOOLS); do PATH="$$PATH:/usr/sbin:/sbin" command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing what provides$$missing"; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update --quiet=2 && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $(DEBIAN) </dev/null; \
	fi

demo: setup
	$(BIN)/medmail demo

test: setup servers
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/python man/generate.py --check
	PYTHONPATH=. $(BIN)/python completions/generate.py --check

# medians and ratios against peers, measured in one run
bench: setup servers
	@for script in tests/benchmarks/*.py; do case $$script in */_*) continue;; esac; echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

# long fuzzing and soaking, outside CI
soak: setup servers
	$(BIN)/pytest -m soak -n 0 -s

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
