"""The report: one assessment as a page, as Markdown, as JSON and in a terminal."""
