"""Before anything is audited: is a cohort de-identified at all? What identifies in headers, pixels and report text.

`check.check` looks and counts, and changes nothing; `words.line` says in one sentence what was looked for, what was
found, and what was not looked for. Values are never kept: of each record only which kinds were found.
"""
