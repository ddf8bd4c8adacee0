"""The report: one self-contained page, its Markdown twin and its plots."""
