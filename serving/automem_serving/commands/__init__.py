"""`automem serve`, `ask`, `promote`, `rollback` and `token`."""
