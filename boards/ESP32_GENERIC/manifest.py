# Freezes the library, the node and this board's module beside what the port freezes itself, in an upstream checkout:
#     make firmware BOARD=ESP32_GENERIC MICROPYTHON_DIR=../micropython
# main.py is left out: a frozen one starts at each power-up, and what starts here is for whoever deploys to say.
include("$(PORT_DIR)/boards/manifest.py")
package("coaplet", base_path="../../lib", opt=3)
package("node", base_path="../../firmware", opt=3)
module("board.py", opt=3)
