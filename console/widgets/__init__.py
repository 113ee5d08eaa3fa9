"""Widgets that the screens are made of; they know lines and tables, not clusters."""
