"""Labelling effort: seconds, clicks and changes of an image, read from the history.

`efforts.efforts` reads the events, `ledger.read_ledger` makes tables of them (with pandas),
`page.write_page` a report (with jinja2 and matplotlib). The last two modules are imported where a
report is asked for, never with the window or the command line.
"""
