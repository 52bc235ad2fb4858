"""What control and its workers share: messages and their channel, the journal's format, the board of heartbeats.

It knows how things are told, never what is done about them; it imports neither the data plane nor control.
"""
