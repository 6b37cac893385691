"""What `check` finds in rows and between tables: odd rows, leaks, personal data.

It may import `corpus` and `core`.
Start at `row_checks`, whose table `ROW_CHECKS` has each check.
"""
