"""What is installed on a machine without the internet: one folder with wheels, models, checksums and the script."""
