"""Pictures of explanations: overlays and sheets, arrays in and arrays out.

This room imports only `explain` and `model`. The modules build on each other in this order: `canvas` (boxes and text on
arrays), `style` (colours, lines and text sizes), `captions` (texts), `boxes` (patches and windows), `strongest` (the
neurons that matter most, and which neurons an overlay shows), `legend`, `strips` and `panel` (two places for texts),
`tiles` (patches in a table) and `header`. The pictures are `overlay`, `slide` and `contact_sheet`. `sheets` draws the
last two.
"""
