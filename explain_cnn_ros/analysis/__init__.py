"""The analysis of recordings: tables, an annotated recording, a report and a comparison; without ROS."""
