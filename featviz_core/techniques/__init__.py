"""One folder a technique: its card in `__init__.py` (no torch), its work in the modules beside it."""
