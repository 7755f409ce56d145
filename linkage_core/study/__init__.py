"""The reference study, run again on data of one's own."""
