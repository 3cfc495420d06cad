"""From measurements to figures and tables: a module a kind, their rows, statistics, drawing."""
