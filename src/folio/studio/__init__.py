"""The studio: a web page on this machine that shows the inside of models.

Reading order: `runs` (what there is, by name), `models` (what is loaded, one thread
each), `text` (what people may type), then a file of plain functions for each view,
`views/`, and beside it the tab that shows it, `tabs/`; `theme`, `app` and `server` put
them on a page. Gradio is imported by `tabs/`, `theme`, `app` and `server` alone.
"""
