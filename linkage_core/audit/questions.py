"""What may be asked of an audit, by name: which way, and among whom. Names alone, for help pages and choices."""

DIRECTIONS = ("image-to-report", "report-to-image")
POOLS = {
    "other-patients": "the match and reports of other patients",
    "all": "the match and any other report, the patient's own included",
    "same-text-counts": "as other-patients, and a report with the match's text counts as the match",
    "same-findings": "the match and reports of other patients with the identical 14 labels",
}
HARD_NEGATIVES = "same-findings"
SAME_TEXT = "same-text-counts"
