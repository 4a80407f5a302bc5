# The doors of the project. Each target first sets up what it needs, in .venv and build, without root; the second time
# that takes no time. PYTHON=python3.12 picks another Python (3.11 or newer).

PYTHON ?= python3
SETUP := PYTHONPATH=tools $(PYTHON) -m coaplet_tools.setup
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run capture emulate test soak lint size bench mpy romfs firmware flash deploy setup format lock clean

help: # `make` alone prints this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: ## Run a sensor node and what it talks to, here and now; SECONDS=20 ends it after 20 s, PLAIN=1 goes without DTLS
	@$(SETUP) --must venv micropython
	@$(BIN)/python -m coaplet_tools.run $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PLAIN),--plain)

capture: ## Write one log's whole life as build/capture.pcapng, with its key, and explain each packet; NODE=cpython
	@$(SETUP) --must venv $(if $(filter cpython,$(NODE)),,micropython)
	@$(BIN)/python -m coaplet_tools.capture $(if $(NODE),--node $(NODE)) $(ARGS)

emulate: ## Run a board's image here with its node, BOARD=RPI_PICO or BOARD=RPI_PICO_W UF2=file; SECONDS=20 ends it after 20 s
	@$(SETUP) --must venv $(if $(filter RPI_PICO,$(BOARD)),micropython-rp2040)
	@$(if $(filter RPI_PICO_W,$(BOARD)),$(SETUP) micropython-rp2040)
	@$(BIN)/python -m coaplet_tools.emulate $(if $(SECONDS),--seconds $(SECONDS)) $(if $(UF2),--uf2 "$(UF2)") $(BOARD)

test: ## Run all tests, on CPython, on MicroPython 64-bit, 32-bit and ARM, and on an emulated RP2040; ARGS="-k wire" picks some
	@$(SETUP)
	@$(BIN)/python -m pytest $(ARGS)

soak: ## Test at length: mutants of the library, then fuzz with 10,000,000 datagrams; PART=mutate or PART=fuzz for one
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.soak $(PART)

lint: ## Check style, types, MicroPython's subset, and that all compiles for each board
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.lint

size: ## Report code size and heap, and fail where a budget is exceeded
	@$(SETUP) --must venv micropython-i386
	@$(BIN)/python -m coaplet_tools.size

bench: ## Measure how fast it serves, beside an echo loop, libcoap and aiocoap; with BOARD=RPI_PICO on that board, emulated
	@$(SETUP) --must $(if $(BOARD),micropython-rp2040,venv micropython libcoap-openssl)
	@$(BIN)/python -m coaplet_tools.bench$(if $(BOARD),.board $(BOARD)) $(ARGS)

mpy: ## Compile the library for all boards into build/mpy/ARCH/coaplet; ARCH=armv6m, xtensawin, ... or bytecode for one
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.mpy $(if $(ARCH),--arch $(ARCH))

romfs: ## Make a ROMFS image of library and node, build/romfs/BOARD.romfs, for a board with a ROM partition
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.deploy romfs $(BOARD) $(if $(ARCH),--arch $(ARCH))

flash: ## Write MicroPython onto a board: BOARD=RPI_PICO_W UF2=file, BOARD=ESP32_GENERIC IMAGE=file PORT=port; ERASE=1
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.deploy flash $(BOARD) $(if $(PORT),--port "$(PORT)") \
	  $(if $(UF2)$(IMAGE),--image "$(or $(UF2),$(IMAGE))") $(if $(ERASE),--erase)

deploy: ## Bring library, node and configuration onto a board that has MicroPython, and start it: BOARD=... PORT=... CONFIG=file
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.deploy deploy $(BOARD) $(if $(PORT),--port "$(PORT)") \
	  $(if $(CONFIG),--config "$(CONFIG)") $(if $(ARCH),--arch $(ARCH))

firmware: ## Build the image of a board, BOARD=RPI_PICO; MICROPYTHON_DIR=checkout for a board that Debian cannot build
	@$(SETUP) venv
	@$(BIN)/python -m coaplet_tools.firmware $(if $(MICROPYTHON_DIR),--micropython "$(MICROPYTHON_DIR)") $(BOARD)

setup: ## Set up everything now, for work without a network later
	@$(SETUP)

format: # Let ruff mend what it can
	@$(SETUP) venv
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: # Pin tools/requirements.in anew, in an environment of its own
	@$(SETUP) venv
	rm -rf build/lock
	$(BIN)/python -m venv --without-pip build/lock
	$(BIN)/python -m pip --python build/lock install --quiet --requirement tools/requirements.in
	{ echo "# The lock of tools/requirements.in. Written by: make lock"; \
	  $(BIN)/python -m pip --python build/lock freeze --all; } > build/lock/requirements.txt
	mv build/lock/requirements.txt tools/requirements.txt

clean: ## Remove all that was made: .venv, build, caches
	rm -rf .venv build .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
