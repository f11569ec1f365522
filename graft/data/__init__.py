"""Files of rows: reading them strictly, choosing their columns, splitting them and checking them for leaks."""
