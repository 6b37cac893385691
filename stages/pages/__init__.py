"""The two HTML pages, metrics/eval/report.html and metrics/figures/explore.html.

It may import `scoring`, `corpus` and `core`.
Start at `evaluation_page` and `data_page`.
"""
