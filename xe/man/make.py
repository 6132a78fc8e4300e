"""xe(1): the hand-written frame with the generated list of commands. usage: make.py FRAME COMMANDS OUT"""

import sys
from pathlib import Path

frame, commands, out = map(Path, sys.argv[1:4])
text = frame.read_text()
if text.count("@COMMANDS@\n") != 1:
    sys.exit(f"{frame}: @COMMANDS@ must stand in it once")
out.write_text(text.replace("@COMMANDS@\n", commands.read_text()))
