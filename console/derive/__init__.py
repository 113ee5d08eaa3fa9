"""From a snapshot to what is on the screen, as plain values: lines with tones, and tables of cells. Pure.

Knows the snapshot types and admin's words for sizes and times; nothing of widgets, so it is tested without a terminal.
"""
