"""The door: the command line, one file for each command group. It decides nothing and stores nothing.

Commands ask the running gate's admin API or call `control`; nobody imports this room.
"""
