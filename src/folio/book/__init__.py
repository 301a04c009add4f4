"""The book's builders: chapters in Markdown become a site, a PDF, notebooks.

`summary` reads the table of contents; `symbols` finds what is quoted, `recorded` what
was measured, `references` what is cited; `cells` runs code. `quote`, `cell`, `drawing`,
`exercise` and `cite` are the directives made of these. `site` is the HTML; `plain`,
`print` and `portable` are what leaves the browser; `build` puts them together.
"""
