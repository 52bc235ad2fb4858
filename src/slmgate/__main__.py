"""`python -m slmgate`: the same door as the command `slmgate`. It holds no command and knows none; see `cli/app.py`."""

from slmgate.cli.app import main

main()
