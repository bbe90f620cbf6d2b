"""A run in other programs' formats: a table with a line a cell, and a timeline of one cell."""
