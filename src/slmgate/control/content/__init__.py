"""Prompts and answers that roles want kept: masked in a process apart, then written, read by owners, and deleted in time.

`masks` finds what is private in a text, `texts` finds the texts in bodies, `masker` is the process, `service` the rest. Nothing
here writes a byte that was not masked.
"""
