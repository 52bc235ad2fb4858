"""slmgate: an access proxy for small language models.

The package is three floors (see ARCHITECTURE.md): the pure floor decides and reads bytes, the moving
floor owns sockets, processes and files, and the door is the command line. This module holds nothing
but the version and imports no room, so that a worker process starts without paying for the control side.
"""

__version__ = "0.1.0"
