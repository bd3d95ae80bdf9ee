"""Labels by hand: a local page that shows the windows of an analysis, the most informative first."""
