"""The commands of the command line, a module per subject; cli.py holds the table that names them."""
