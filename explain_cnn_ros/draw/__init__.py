"""Pictures of explanations: overlays and contact sheets, arrays in and arrays out.

This room imports only `explain` and `model`. The modules build on each other in this order: `canvas` (boxes and text on
arrays), `style` (colours, lines and text sizes), `captions` (texts), `boxes` (patches and windows), `legend`, `strips`
and `panel` (two places for texts), `tiles` (patches in a table). The pictures are `overlay` and `contact_sheet`.
"""
