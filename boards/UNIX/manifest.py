# Freezes the node and this board's module into a unix port:
#     make -C ports/unix FROZEN_MANIFEST=.../boards/UNIX/manifest.py
# The launchers in build/bin run the same files from source, with MICROPYPATH.
include("../../firmware/manifest.py")
module("board.py")
