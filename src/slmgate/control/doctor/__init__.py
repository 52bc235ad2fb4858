"""`slmgate doctor`: what a gate's operator would rather hear from the doctor than from somebody else.

`inside.py` judges what `facts.py` gathers on the gate's own machine, `outside.py` asks the gate's addresses as a stranger would.
Nothing here changes anything, and no secret is shown.
"""
