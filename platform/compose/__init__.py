"""Staging in containers: what its files hold, and the checks of it."""
