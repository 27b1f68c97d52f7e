"""The `gpudiff` command: `main.py` reads the arguments, one file per subcommand does the work."""
