# Freezes the library, the node and this board's module beside what the port freezes itself, in an upstream checkout:
#     make firmware BOARD=RPI_PICO_W MICROPYTHON_DIR=../micropython
# main.py is left out: a frozen one starts at each power-up, and what starts here is for whoever deploys to say.
include("$(PORT_DIR)/boards/RPI_PICO_W/manifest.py")
package("coaplet", base_path="../../lib", opt=3)
package("node", base_path="../../firmware", opt=3)
module("board.py", opt=3)
