"""The HTML pages: values in Python, and the Jinja2 templates in templates/ that show them and escape every text.

It may import `scoring`, `corpus` and `core`.
Start at `evaluation_page`, `data_page` and `leaderboard_page`, each with its template: report, explore, leaderboard.
"""
