"""What the loop is given, built from the settings, and what comes after the last step."""
