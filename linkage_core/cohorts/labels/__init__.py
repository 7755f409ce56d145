"""The 14 labels read from the words of an English report, by rules that stand in one table (rules.csv)."""
