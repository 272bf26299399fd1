"""Fuzzing by seeded mutations; each module runs as a command and, shorter, inside the tests."""
