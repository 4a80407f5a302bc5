"""Sets up what the make targets need, without root and without touching the system.

    python3 -m coaplet_tools.setup [--must] [part ...]

The standard library only: this runs on a fresh machine's own python3, before there is a .venv. A part that cannot
be had is recorded in build/setup.json with the reason; tests turn that into a SKIP. All is undone by `make clean`.
"""
