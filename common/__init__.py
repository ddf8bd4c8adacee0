"""What every package may use: the command line, errors, files, progress and params. It knows no other package of ours."""
