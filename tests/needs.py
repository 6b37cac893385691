"""Marks of tests that need what is not everywhere."""

from __future__ import annotations

import sys

import pytest

needs_mecab = pytest.mark.skipif(sys.version_info >= (3, 13), reason="python-mecab-ko has no build for Python 3.13")
