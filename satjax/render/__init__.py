"""What the command line shows people: tables and progress."""
