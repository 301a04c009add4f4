"""How Gradio's own parts look: the colors and letters of the reports.

Each color is a variable of `folio.viz.color`, which the page sets for light and dark;
so Gradio's two sets of values are the same. No font is loaded from anywhere.
"""

from __future__ import annotations

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "Consolas", "monospace")
NONE, CLEAR = "none", "transparent"
BUTTONS = {
    "primary": ("var(--ink)", "var(--paper)", "var(--ink)"),
    "secondary": ("var(--surface)", "var(--ink)", "var(--rule)"),
    "cancel": ("var(--surface)", "var(--ink)", "var(--rule)"),
}
VALUES = {
    "body_background_fill": "var(--paper)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--quiet)",
    "background_fill_primary": "var(--paper)",
    "background_fill_secondary": "var(--surface)",
    "border_color_primary": "var(--rule)",
    "border_color_accent": "var(--train)",
    "border_color_accent_subdued": "var(--rule)",
    "color_accent": "var(--train)",
    "color_accent_soft": "var(--surface)",
    "link_text_color": "var(--train)",
    "block_background_fill": CLEAR,
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": NONE,
    "block_label_background_fill": CLEAR,
    "block_label_border_width": "0px",
    "block_label_text_color": "var(--quiet)",
    "block_title_text_color": "var(--quiet)",
    "block_title_text_weight": "500",
    "block_title_background_fill": CLEAR,
    "block_info_text_color": "var(--quiet)",
    "panel_background_fill": CLEAR,
    "panel_border_width": "0px",
    "form_gap_width": "14px",
    "layout_gap": "14px",
    "checkbox_background_color": "var(--paper)",
    "checkbox_background_color_hover": "var(--surface)",
    "checkbox_background_color_focus": "var(--paper)",
    "checkbox_background_color_selected": "var(--train)",
    "checkbox_border_color": "var(--quiet)",
    "checkbox_border_color_hover": "var(--ink)",
    "checkbox_border_color_focus": "var(--train)",
    "checkbox_border_color_selected": "var(--train)",
    "checkbox_label_background_fill": "var(--surface)",
    "checkbox_label_background_fill_hover": "var(--surface)",
    "checkbox_label_background_fill_selected": "var(--surface)",
    "checkbox_label_border_color": "var(--rule)",
    "checkbox_label_border_color_selected": "var(--ink)",
    "checkbox_label_text_color": "var(--ink)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "checkbox_shadow": NONE,
    "checkbox_label_shadow": NONE,
    "error_background_fill": "var(--surface)",
    "error_border_color": "var(--warning)",
    "error_text_color": "var(--ink)",
    "error_icon_color": "var(--warning)",
    "input_background_fill": "var(--surface)",
    "input_background_fill_focus": "var(--surface)",
    "input_background_fill_hover": "var(--surface)",
    "input_border_color": "var(--rule)",
    "input_border_color_focus": "var(--train)",
    "input_border_color_hover": "var(--quiet)",
    "input_border_width": "1px",
    "input_placeholder_color": "var(--quiet)",
    "input_shadow": NONE,
    "input_shadow_focus": NONE,
    "slider_color": "var(--train)",
    "stat_background_fill": "var(--surface)",
    "loader_color": "var(--train)",
    "table_text_color": "var(--ink)",
    "accordion_text_color": "var(--ink)",
    "button_border_width": "1px",
    "button_transition": NONE,
}


def make_theme() -> gr.themes.Base:
    """The theme, with the same values for light and dark."""
    theme = gr.themes.Base(font=SANS, font_mono=MONO, radius_size="md")
    values = dict(VALUES)
    for name, (fill, letters, border) in BUTTONS.items():
        for state in ("", "_hover"):
            values[f"button_{name}_background_fill{state}"] = fill
            values[f"button_{name}_text_color{state}"] = letters
            values[f"button_{name}_border_color{state}"] = border
        for state in ("", "_hover", "_active"):
            values[f"button_{name}_shadow{state}"] = NONE
    for name, value in values.items():
        setattr(theme, name, value)
        if hasattr(theme, f"{name}_dark"):
            setattr(theme, f"{name}_dark", value)
    return theme
