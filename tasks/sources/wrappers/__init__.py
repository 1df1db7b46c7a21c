"""Sources that give another source's rows otherwise: held out, filtered, multiplied."""
