"""The dashboard: pages of the admin listener for people, made on the server, that work without script and without the internet.

`routes.py` holds the table of pages; a page is a function from an `Ask` to a `View`, and reads through what the admin API's
handlers use. Nothing here decides who may do what.
"""
