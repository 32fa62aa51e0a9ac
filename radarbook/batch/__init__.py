"""Many recordings: fits one by one or by workers, their table and their page."""
