"""The sections of the report: a file reads what its section says, and the template beside it shows it."""
